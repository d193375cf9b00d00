"""What a curious server can find out from released values: pure functions of arrays."""

"""The party's side of the protocol."""

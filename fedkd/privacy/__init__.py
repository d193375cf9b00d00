"""What leaves a party, and what it costs."""

"""Real machines: keys, folders for operators, and the processes that run on them."""

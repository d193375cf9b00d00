"""Distilling topic models: the paper's objective, and the mathematics of a federation of them."""

"""Ground costs between labels and optimal transport over them."""

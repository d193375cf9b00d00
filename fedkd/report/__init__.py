"""Plots, the page and the table that people look at first."""

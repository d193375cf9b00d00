"""Measures of a prediction against the truth, and intervals over seeds."""

"""Engines, the run folder and resuming; the only room that knows Flower."""

"""Engines, the run folder and resuming; the only room that knows Flower."""

import os

# Flower reads the first when it is imported, which this room does.
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

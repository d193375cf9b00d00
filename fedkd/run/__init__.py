"""Engines, the run folder and resuming; the only room that knows Flower."""

import os

# Flower and Ray read theirs when they are imported, which this room does. Ray would start itself
# anew for any call after its end.
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

"""Landmark Retrieval: given a photo, find every photo of the same landmark."""

import os

__version__ = "0.1.0"

# Nothing about a user's work leaves the machine. Here, because MLflow asks while it is imported; it reads
# "true" only, Kedro any text.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")

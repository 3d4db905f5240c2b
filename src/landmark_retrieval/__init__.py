"""Landmark Retrieval: given a photo, find every photo of the same landmark."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from landmark_retrieval.retrieval.answers import Landmark, Match, Region, SearchResult
    from landmark_retrieval.retrieval.library import Index

__all__ = ["Index", "Landmark", "Match", "Region", "SearchResult"]

from landmark_retrieval.runtime.cores import allowed_cores

__version__ = "0.1.0"

# Nothing about a user's work leaves the machine. Here, because MLflow asks while it is imported; it reads
# "true" only, Kedro any text.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")

# Threads that wait sleep: those that spin take from other work on the machine what it needs, until two runs
# on two cores take ten times as long as one. OpenMP knows of affinity but not of quotas. Here, as its runtime
# reads both when the first library that brings it is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if allowed_cores() < (os.cpu_count() or 1):
    os.environ.setdefault("OMP_NUM_THREADS", str(allowed_cores()))


def __getattr__(name: str) -> Any:
    """Return what the library offers; it is imported when it is first asked for, not with the package."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from landmark_retrieval.retrieval import answers, library

    return getattr(library if name == "Index" else answers, name)

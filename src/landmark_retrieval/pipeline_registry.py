"""All pipelines by name; `kedro run` without a name runs the stages of the paper in order."""

from __future__ import annotations

from kedro.framework.project import find_pipelines
from kedro.pipeline import Pipeline

STAGES = ("features", "knn_graph", "spatial_verification", "egt", "evaluation")


def register_pipelines() -> dict[str, Pipeline]:
    """Return every pipeline under `pipelines/`, and the stages of the paper as `__default__`."""
    pipelines: dict[str, Pipeline] = find_pipelines(raise_errors=True)
    pipelines["__default__"] = sum((pipelines[stage] for stage in STAGES), start=Pipeline([]))
    return pipelines

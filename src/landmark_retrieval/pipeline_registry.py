"""All pipelines by name; `kedro run` without a name runs the stages of the paper in order."""

from __future__ import annotations

import importlib
import pkgutil

from kedro.pipeline import Pipeline

from landmark_retrieval import pipelines as packages

STAGES = ("features", "knn_graph", "spatial_verification", "egt", "evaluation")


def register_pipelines() -> dict[str, Pipeline]:
    """Return every pipeline under `pipelines/`, and the stages of the paper as `__default__`.

    Kedro's `find_pipelines` gives only those that a run asks for; the hooks need all, to time every variant
    and to name the pipeline that makes a missing artifact.
    """
    pipelines: dict[str, Pipeline] = {
        package.name: importlib.import_module(f"{packages.__name__}.{package.name}").create_pipeline()
        for package in pkgutil.iter_modules(packages.__path__)
        if package.ispkg
    }
    pipelines["__default__"] = sum((pipelines[stage] for stage in STAGES), start=Pipeline([]))
    return pipelines

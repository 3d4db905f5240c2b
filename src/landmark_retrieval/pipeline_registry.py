"""All pipelines by name; `kedro run` without a name runs the stages of the paper in order."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Collection, Mapping

from kedro.pipeline import Pipeline

from landmark_retrieval import pipelines as packages
from landmark_retrieval.evaluation.ablation import VARIANTS

STAGES = ("features", "knn_graph", "spatial_verification", "egt", "evaluation", "collection")

INSTEAD = {"features": "own_features", "spatial_verification": "nearest_expansion"}
"""Stages of a run from descriptors that were made elsewhere, by those whose place they take."""

OWN_STAGES = (*(INSTEAD.get(stage, stage) for stage in STAGES if stage != "collection"), "rivals")
"""Stages of such a run, which has no photos to group and is cheap enough to have the rivals in it."""


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
    whole = sum((pipelines[stage] for stage in STAGES), start=Pipeline([]))
    variants = {
        variant: {node.name for node in whole.to_outputs(f"{variant}.metrics").nodes} for variant in VARIANTS
    }
    pipelines = {name: _tagged(pipeline, name, variants) for name, pipeline in pipelines.items()}
    own = sum((pipelines[stage] for stage in OWN_STAGES), start=Pipeline([]))
    # The report shows photos and their matches.
    pipelines["own_descriptors"] = own.filter(
        node_names=[node.name for node in own.nodes if node.name != "evaluation.make_report"]
    )
    pipelines["__default__"] = sum((pipelines[stage] for stage in STAGES), start=Pipeline([]))
    return pipelines


def _tagged(pipeline: Pipeline, name: str, variants: Mapping[str, Collection[str]]) -> Pipeline:
    """Tag nodes with their pipeline, and with each variant whose metrics need them.

    kedro-viz then shows one variant's way through the graph, and `kedro run --tags blend` runs no more.
    """
    return Pipeline(
        [
            node.tag([name, *(variant for variant, nodes in variants.items() if node.name in nodes)])
            for node in pipeline.nodes
        ]
    )

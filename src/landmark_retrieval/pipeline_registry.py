"""All pipelines by name; `kedro run` without a name runs the stages of the paper in order."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Collection, Mapping, Sequence

from kedro.pipeline import Pipeline

from landmark_retrieval import pipelines as packages
from landmark_retrieval.pipelines.egt_sweep import pipeline as egt_sweep
from landmark_retrieval.retrieval.variants import Variant, choose_variants

STAGES = ("features", "knn_graph", "spatial_verification", "egt", "evaluation", "collection")

INSTEAD = {
    "features": "own_features",
    "spatial_verification": "nearest_expansion",
    "egt_sweep": "own_egt_sweep",
}
"""Pipelines of a run from descriptors that were made elsewhere, by those whose place they take."""

OF_PHOTOS = ("evaluation.make_report", "aggregated.")
"""How names of nodes begin that need photos, though their stage does not: the report, and local features."""

OWN_STAGES = (*(INSTEAD.get(stage, stage) for stage in STAGES if stage != "collection"), "rivals")
"""Stages of such a run, which has no photos to group and is cheap enough to have the rivals in it."""


def register_pipelines(variants: Sequence[Variant] | None = None) -> dict[str, Pipeline]:
    """Return every pipeline under `pipelines/`, and the stages of the paper as `__default__`.

    Kedro's `find_pipelines` gives only those that a run asks for; the hooks need all, to time every variant
    and to name the pipeline that makes a missing artifact.

    Args:
        variants: of the run, as the parameter `variants` chooses them (`hooks.ArtifactHooks`); None for all.
    """
    variants = choose_variants(None) if variants is None else variants
    pipelines: dict[str, Pipeline] = {
        package.name: importlib.import_module(f"{packages.__name__}.{package.name}").create_pipeline(
            variants=variants
        )
        for package in pkgutil.iter_modules(packages.__path__)
        if package.ispkg
    }
    pipelines["own_egt_sweep"] = egt_sweep.create_own_pipeline(local_features=False)
    whole = sum((pipelines[stage] for stage in STAGES), start=Pipeline([]))
    ways = {
        variant.name: {node.name for node in whole.to_outputs(f"{variant.name}.metrics").nodes}
        for variant in variants
    }
    pipelines = {name: _tagged(pipeline, name, ways) for name, pipeline in pipelines.items()}
    own = sum((pipelines[stage] for stage in OWN_STAGES), start=Pipeline([]))
    pipelines["own_descriptors"] = own.filter(
        node_names=[node.name for node in own.nodes if not node.name.startswith(OF_PHOTOS)]
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

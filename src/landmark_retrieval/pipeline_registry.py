"""All pipelines by name; `kedro run` without a name runs the stages of the paper in order."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from kedro.pipeline import Pipeline

from landmark_retrieval import pipelines as packages
from landmark_retrieval.pipelines.egt_sweep import pipeline as egt_sweep
from landmark_retrieval.pipelines.own_features import pipeline as own_features
from landmark_retrieval.retrieval.variants import Variant, choose_variants

STAGES = ("features", "knn_graph", "spatial_verification", "egt", "evaluation", "collection")

INSTEAD = {
    "features": ("own_features",),
    "spatial_verification": ("nearest_expansion",),
    "egt_sweep": ("own_egt_sweep",),
}
"""Pipelines of a run from descriptors that were made elsewhere, by those whose place they take."""

INSTEAD_VERIFIED = {
    "features": ("own_features", "own_aggregated"),
    "egt_sweep": ("own_egt_sweep_verified",),
}
"""The same where there are local features, too."""

OF_PHOTOS = ("evaluation.make_report",)
"""How names of nodes begin that need photos, though their stage does not."""

OF_LOCAL_FEATURES = "aggregated."
"""How names of nodes begin that need local features, though their stage does not."""


def whole_run(params: Mapping[str, Any]) -> str:
    """Return the pipeline that is the whole run with some runtime parameters.

    Args:
        params: as given on the command line.
    """
    own = params.get("descriptors")
    if not own:
        return "__default__"
    verified = isinstance(own, Mapping) and own.get("local_features")
    return "own_descriptors_verified" if verified else "own_descriptors"


def own_pipelines(names: Sequence[str], verified: bool) -> list[str]:
    """Return the pipelines of a run from descriptors that were made elsewhere.

    Args:
        names: pipelines as for photos.
        verified: whether there are local features, too.
    """
    instead = INSTEAD_VERIFIED if verified else INSTEAD
    return [own for name in names for own in instead.get(name, (name,))]


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
    pipelines["own_aggregated"] = own_features.create_aggregated_pipeline()
    pipelines["own_egt_sweep"] = egt_sweep.create_own_pipeline(local_features=False)
    pipelines["own_egt_sweep_verified"] = egt_sweep.create_own_pipeline(local_features=True)
    whole = sum((pipelines[stage] for stage in STAGES), start=Pipeline([]))
    ways = {
        variant.name: {node.name for node in whole.to_outputs(f"{variant.name}.metrics").nodes}
        for variant in variants
    }
    pipelines = {name: _tagged(pipeline, name, ways) for name, pipeline in pipelines.items()}
    # There are no photos to group, and the run is cheap enough to have the rivals in it.
    stages = [*(stage for stage in STAGES if stage != "collection"), "rivals"]
    for name, verified in (("own_descriptors", False), ("own_descriptors_verified", True)):
        own = sum((pipelines[stage] for stage in own_pipelines(stages, verified)), start=Pipeline([]))
        left_out = OF_PHOTOS if verified else (*OF_PHOTOS, OF_LOCAL_FEATURES)
        kept = [node.name for node in own.nodes if not node.name.startswith(left_out)]
        pipelines[name] = own.filter(node_names=kept)
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

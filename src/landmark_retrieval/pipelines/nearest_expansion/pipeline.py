"""Nearest neighbours -> expanded descriptors -> their graph, in place of spatial verification."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from landmark_retrieval.pipelines.knn_graph.nodes import join_neighbors
from landmark_retrieval.pipelines.knn_graph.pipeline import create_search_pipeline
from landmark_retrieval.pipelines.nearest_expansion import nodes
from landmark_retrieval.retrieval.variants import BLEND, BLEND_QE_SV

VARIANT = BLEND_QE_SV.name
"""The place that this stage takes in the ablation."""


def create_pipeline(**_: object) -> Pipeline:
    """Return the nearest_expansion pipeline."""
    expansion = Node(
        nodes.expand_descriptors,
        inputs=[f"{BLEND.name}.descriptors", f"{BLEND.name}.knn_graph", "image_table", "params:expansion"],
        outputs=f"{VARIANT}.descriptors",
        name="expand_by_nearest",
        namespace=VARIANT,
    )
    nothing = Node(
        nodes.compare_nothing,
        inputs=f"{BLEND.name}.knn_graph",
        outputs=["verified_pairs", "inlier_fits", "pair_probabilities"],
        name="compare_nothing",
        namespace=VARIANT,
    )
    return Pipeline([expansion, nothing]) + create_search_pipeline(VARIANT, join_neighbors)

"""Top neighbours -> RANSAC on local features -> expanded descriptors -> their graph, re-ranked (QE-SV)."""

from __future__ import annotations

from collections.abc import Sequence

from kedro.pipeline import Node, Pipeline

from landmark_retrieval.pipelines.knn_graph.pipeline import create_search_pipeline
from landmark_retrieval.pipelines.spatial_verification import nodes
from landmark_retrieval.retrieval.variants import BLEND, BLEND_QE_SV, Variant, graphs_of


def create_pipeline(variants: Sequence[Variant], **_: object) -> Pipeline:
    """Return the spatial_verification pipeline.

    Args:
        variants: of the run.
    """
    graphs = graphs_of(variants)
    expanded = [graph for graph in graphs if graph.expansion is not None]
    return sum((create_expansion_pipeline(graph) for graph in expanded), start=create_verification_pipeline())


def create_verification_pipeline() -> Pipeline:
    """Return the steps that compare every image with its nearest neighbours."""
    return Pipeline(
        [
            Node(
                nodes.verify_candidates,
                inputs=[
                    f"{BLEND.name}.knn_graph",
                    "aggregated.knn_graph",
                    "image_table",
                    "oriented_table",
                    "local_features",
                    "store",
                    "params:verification",
                    "params:expansion",
                    "params:verification_executor",
                ],
                outputs="verified_pairs",
                name="verify_candidates",
                namespace=BLEND_QE_SV.name,
            ),
            Node(
                nodes.calibrate_pairs,
                inputs=["verified_pairs", "local_features", "image_table", "params:verification"],
                outputs=["inlier_fits", "pair_probabilities"],
                name="calibrate_pairs",
                namespace=BLEND_QE_SV.name,
            ),
        ]
    )


def create_expansion_pipeline(variant: Variant) -> Pipeline:
    """Return the steps that expand the descriptors for a variant, search them and re-rank what is found."""
    expand = Node(
        nodes.expand_descriptors,
        inputs=[
            f"{BLEND.name}.descriptors",
            f"{BLEND.name}.knn_graph",
            "verified_pairs",
            "inlier_fits",
            "image_table",
            "params:verification",
            f"params:{variant.expansion}",
        ],
        outputs=f"{variant.name}.descriptors",
        name="expand_descriptors",
        namespace=variant.name,
    )
    search = create_search_pipeline(
        variant.name,
        nodes.rerank_verified,
        [
            f"{variant.name}.descriptors",
            "image_table",
            "verified_pairs",
            "inlier_fits",
            "params:verification",
        ],
    )
    return Pipeline([expand]) + search

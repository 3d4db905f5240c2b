"""Top neighbours -> RANSAC on local features -> expanded descriptors -> their graph, re-ranked (QE-SV)."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from landmark_retrieval.pipelines.knn_graph.pipeline import create_search_pipeline
from landmark_retrieval.pipelines.spatial_verification import nodes

VARIANT = "blend_qe_sv"


def create_pipeline(**_: object) -> Pipeline:
    """Return the spatial_verification pipeline."""
    return Pipeline(
        [
            Node(
                nodes.verify_candidates,
                inputs=[
                    "blend.knn_graph",
                    "image_table",
                    "local_features",
                    "store",
                    "params:verification",
                    "params:expansion",
                    "params:verification_executor",
                ],
                outputs="verified_pairs",
                name="verify_candidates",
                namespace=VARIANT,
            ),
            Node(
                nodes.calibrate_pairs,
                inputs=["verified_pairs", "params:local_features", "image_table", "params:verification"],
                outputs=["inlier_fits", "pair_probabilities"],
                name="calibrate_pairs",
                namespace=VARIANT,
            ),
            Node(
                nodes.expand_descriptors,
                inputs=[
                    "blend.descriptors",
                    "blend.knn_graph",
                    "verified_pairs",
                    "inlier_fits",
                    "image_table",
                    "params:verification",
                    "params:expansion",
                ],
                outputs=f"{VARIANT}.descriptors",
                name="expand_descriptors",
                namespace=VARIANT,
            ),
        ]
    ) + create_search_pipeline(
        VARIANT,
        nodes.rerank_verified,
        ["verified_pairs", "inlier_fits", "params:verification"],
    )

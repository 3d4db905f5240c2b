"""Blended descriptors -> exact k-NN graph -> the ranking of the first variant."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from landmark_retrieval.pipelines.knn_graph import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Return the knn_graph pipeline."""
    return create_search_pipeline("blend")


def create_search_pipeline(variant: str) -> Pipeline:
    """Return the search stage of a variant: its descriptors become its graph and its ranking.

    Args:
        variant: namespace of the variant.
    """
    return Pipeline(
        [
            Node(
                nodes.build_graph,
                inputs=["descriptors", "image_table", "params:knn"],
                outputs="knn_graph",
                name="search_neighbors",
            ),
            Node(
                nodes.rank_neighbors,
                inputs=["knn_graph", "params:ranking"],
                outputs="ranking",
                name="rank_neighbors",
            ),
        ],
        namespace=variant,
        inputs={"image_table"},
        parameters={"params:knn", "params:ranking"},
    )

"""Blended descriptors -> exact k-NN graph -> the ranking of the first variant; aggregated ones -> a graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kedro.pipeline import Node, Pipeline

from landmark_retrieval.knn import KnnGraph
from landmark_retrieval.pipelines.features.pipeline import AGGREGATED
from landmark_retrieval.pipelines.knn_graph import nodes
from landmark_retrieval.retrieval.variants import BLEND


def create_pipeline(**_: object) -> Pipeline:
    """Return the knn_graph pipeline."""
    return create_search_pipeline(BLEND.name, nodes.join_neighbors) + create_list_pipeline(AGGREGATED)


def create_list_pipeline(descriptor: str) -> Pipeline:
    """Return the search by a descriptor that proposes candidates and makes no ranking of its own.

    Args:
        descriptor: its namespace.
    """
    whole = create_search_pipeline(descriptor, nodes.join_neighbors)
    return whole.only_nodes(f"{descriptor}.search_neighbors", f"{descriptor}.join_neighbors")


def create_search_pipeline(
    variant: str, join: Callable[..., KnnGraph], join_inputs: Sequence[str] = ()
) -> Pipeline:
    """Return the search stage of a variant: its descriptors become its graph and its ranking.

    Args:
        variant: namespace of the variant.
        join: node function that makes the graph of the finished blocks of the search.
        join_inputs: what it takes after the blocks.
    """
    return Pipeline(
        [
            Node(
                nodes.search_neighbors,
                inputs=[f"{variant}.descriptors", "image_table", "params:knn", "params:executor"],
                outputs=f"{variant}.neighbor_shards",
                name="search_neighbors",
                namespace=variant,
            ),
            Node(
                join,
                inputs=[f"{variant}.neighbor_shards", *join_inputs],
                outputs=f"{variant}.knn_graph",
                name=join.__name__,
                namespace=variant,
            ),
            Node(
                nodes.measure_recall,
                inputs=[f"{variant}.descriptors", "image_table", "params:knn"],
                outputs=f"{variant}.knn_recall",
                name="measure_recall",
                namespace=variant,
            ),
            Node(
                nodes.rank_neighbors,
                inputs=[f"{variant}.knn_graph", "params:ranking"],
                outputs=f"{variant}.ranking",
                name="rank_neighbors",
                namespace=variant,
            ),
        ]
    )

"""Graphs of neighbours -> EGT -> the same with label bridges through the train images."""

from __future__ import annotations

from collections.abc import Sequence

from kedro.pipeline import Node, Pipeline

from landmark_retrieval.pipelines.egt import nodes
from landmark_retrieval.retrieval.variants import Variant, graphs_of

LABELS = ("label_bridge", "label_evidence")
"""What a variant that uses labels takes."""


def create_pipeline(variants: Sequence[Variant], **_: object) -> Pipeline:
    """Return the egt pipeline: all that ranks the neighbours that a search has found.

    Args:
        variants: of the run.
    """
    ranking = [variant for variant in variants if variant.rank is not None]
    settle = Node(
        nodes.settle_options,
        inputs=["params:egt", "params:label_bridge", "chosen_options"],
        outputs="traversal_options",
        name="settle_options",
    )
    parts = [Pipeline([settle])]
    parts += [create_index_graph_pipeline(graph.name) for graph in graphs_of(ranking)]
    labelled = graphs_of([variant for variant in ranking if variant.uses_labels])
    parts += [create_label_bridge_pipeline(graph.name) for graph in labelled]
    parts += [create_ranking_pipeline(variant) for variant in ranking]
    return sum(parts, start=Pipeline([]))


def create_index_graph_pipeline(graph: str) -> Pipeline:
    """Return the step that makes the index part of a variant's graph undirected."""
    return Pipeline(
        [
            Node(
                nodes.symmetrize_graph,
                inputs=f"{graph}.knn_graph",
                outputs=f"{graph}.index_graph",
                name="symmetrize_index_graph",
                namespace=graph,
            )
        ]
    )


def create_label_bridge_pipeline(graph: str) -> Pipeline:
    """Return the steps that vote labels by the descriptors of a variant that searches for itself."""
    return Pipeline(
        [
            Node(
                nodes.search_train_images,
                inputs=[
                    f"{graph}.descriptors",
                    "image_table",
                    "traversal_options",
                    "params:knn",
                    "params:executor",
                ],
                outputs=f"{graph}.train_neighbor_shards",
                name="search_train_images",
                namespace=graph,
            ),
            Node(
                nodes.weigh_labels,
                inputs=[
                    f"{graph}.knn_graph",
                    f"{graph}.train_neighbor_shards",
                    "pair_probabilities",
                    f"{graph}.descriptors",
                    "image_table",
                    "traversal_options",
                    "params:knn",
                ],
                outputs=f"{graph}.label_evidence",
                name="weigh_labels",
                namespace=graph,
            ),
            Node(
                nodes.vote_labels,
                inputs=[
                    f"{graph}.train_neighbor_shards",
                    f"{graph}.label_evidence",
                    "image_table",
                    "traversal_options",
                ],
                outputs=f"{graph}.label_bridge",
                name="vote_labels",
                namespace=graph,
            ),
        ]
    )


def create_ranking_pipeline(variant: Variant) -> Pipeline:
    """Return the steps by which a variant ranks the neighbours of its graph."""
    inputs = [
        f"{variant.graph}.knn_graph",
        f"{variant.graph}.index_graph",
        "pair_probabilities",
        f"{variant.graph}.descriptors",
        "image_table",
        "traversal_options",
        "params:ranking",
        *([f"{variant.graph}.{name}" for name in LABELS] if variant.uses_labels else []),
    ]
    found = "traversal" if variant.traverses else "ranking"
    rank = Node(
        nodes.rank_by(variant),
        inputs=inputs,
        outputs=f"{variant.name}.{found}",
        name=variant.rank.__name__ if variant.rank else "rank",
        namespace=variant.name,
    )
    if not variant.traverses:
        return Pipeline([rank])
    cut = Node(
        nodes.rank_traversal,
        inputs=[f"{variant.name}.traversal", "params:ranking"],
        outputs=f"{variant.name}.ranking",
        name="rank_traversal",
        namespace=variant.name,
    )
    return Pipeline([rank, cut])

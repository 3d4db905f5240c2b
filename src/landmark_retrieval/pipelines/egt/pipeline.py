"""Graph of the expanded descriptors -> EGT -> the same with label bridges through the train images."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from landmark_retrieval.pipelines.egt import nodes


def create_pipeline(**_: object) -> Pipeline:
    """Return the egt pipeline."""
    return (
        create_traversal_pipeline()
        + create_ranking_pipeline("blend_qe_sv_egt")
        + create_label_bridge_pipeline()
        + create_ranking_pipeline("blend_qe_sv_semisup_egt")
    )


def create_traversal_pipeline() -> Pipeline:
    """Return the steps of plain EGT, up to its traversal."""
    return Pipeline(
        [
            Node(
                nodes.symmetrize_graph,
                inputs="blend_qe_sv.knn_graph",
                outputs="index_graph",
                name="symmetrize_index_graph",
                namespace="blend_qe_sv_egt",
            ),
            Node(
                nodes.settle_options,
                inputs=["params:egt", "params:label_bridge", "chosen_options"],
                outputs="egt_options",
                name="settle_options",
                namespace="blend_qe_sv_egt",
            ),
            Node(
                nodes.traverse,
                inputs=[
                    "blend_qe_sv.knn_graph",
                    "index_graph",
                    "pair_probabilities",
                    "blend_qe_sv.descriptors",
                    "image_table",
                    "egt_options",
                ],
                outputs="blend_qe_sv_egt.traversal",
                name="explore_exploit",
                namespace="blend_qe_sv_egt",
            ),
        ]
    )


def create_label_bridge_pipeline() -> Pipeline:
    """Return the steps of semi-supervised EGT, from the train images to its traversal."""
    return Pipeline(
        [
            Node(
                nodes.search_train_images,
                inputs=[
                    "blend_qe_sv.descriptors",
                    "image_table",
                    "egt_options",
                    "params:knn",
                    "params:executor",
                ],
                outputs="train_neighbor_shards",
                name="search_train_images",
                namespace="blend_qe_sv_semisup_egt",
            ),
            Node(
                nodes.weigh_labels,
                inputs=[
                    "blend_qe_sv.knn_graph",
                    "train_neighbor_shards",
                    "pair_probabilities",
                    "blend_qe_sv.descriptors",
                    "image_table",
                    "egt_options",
                    "params:knn",
                ],
                outputs="label_evidence",
                name="weigh_labels",
                namespace="blend_qe_sv_semisup_egt",
            ),
            Node(
                nodes.vote_labels,
                inputs=["train_neighbor_shards", "label_evidence", "image_table", "egt_options"],
                outputs="label_bridge",
                name="vote_labels",
                namespace="blend_qe_sv_semisup_egt",
            ),
            Node(
                nodes.traverse_with_labels,
                inputs=[
                    "blend_qe_sv.knn_graph",
                    "index_graph",
                    "label_bridge",
                    "label_evidence",
                    "blend_qe_sv_egt.traversal",
                    "blend_qe_sv.descriptors",
                    "image_table",
                    "egt_options",
                ],
                outputs="blend_qe_sv_semisup_egt.traversal",
                name="explore_exploit_with_labels",
                namespace="blend_qe_sv_semisup_egt",
            ),
        ]
    )


def create_ranking_pipeline(variant: str) -> Pipeline:
    """Return the step that takes the ranking of a variant out of its traversal.

    Args:
        variant: namespace of the variant.
    """
    return Pipeline(
        [
            Node(
                nodes.rank_traversal,
                inputs=["traversal", "params:ranking"],
                outputs="ranking",
                name="rank_traversal",
            )
        ],
        namespace=variant,
        parameters={"params:ranking"},
    )

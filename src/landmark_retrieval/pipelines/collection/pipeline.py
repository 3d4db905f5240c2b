"""Verified pairs -> groups of one place, near-duplicates, doubtful labels -> the page of a collection."""

from __future__ import annotations

from kedro.pipeline import Node, Pipeline

from landmark_retrieval.pipelines.collection import nodes
from landmark_retrieval.retrieval.index import PARAMETER_MODELS

NAMESPACE = "collection"


def create_pipeline(**_: object) -> Pipeline:
    """Return the collection pipeline."""
    return (
        create_evidence_pipeline()
        + create_findings_pipeline()
        + create_page_pipeline()
        + create_library_pipeline()
    )


def create_evidence_pipeline() -> Pipeline:
    """Return the steps that say what pairs prove, and what is new in the collection."""
    return Pipeline(
        [
            Node(
                nodes.judge_pairs,
                inputs=[
                    "verified_pairs",
                    "pair_probabilities",
                    "inlier_fits",
                    "image_table",
                    "params:verification",
                ],
                outputs="photo_links",
                name="judge_pairs",
                namespace=NAMESPACE,
            ),
            Node(
                nodes.count_growth,
                inputs=["image_table", "image_contents", "known_photos"],
                outputs="remembered_photos",
                name="count_growth",
                namespace=NAMESPACE,
            ),
        ]
    )


def create_findings_pipeline() -> Pipeline:
    """Return the steps that find groups, near-duplicates and doubtful labels."""
    return Pipeline(
        [
            Node(
                nodes.make_groups,
                inputs=["photo_links", "image_table", "known_groups", "params:groups"],
                outputs=["groups", "remembered_groups"],
                name="make_groups",
                namespace=NAMESPACE,
            ),
            Node(
                nodes.find_near_duplicates,
                inputs=[
                    "verified_pairs",
                    "photo_links",
                    "image_table",
                    "image_contents",
                    "params:near_duplicates",
                ],
                outputs="near_duplicates",
                name="find_near_duplicates",
                namespace=NAMESPACE,
            ),
            Node(
                nodes.find_doubts,
                inputs=["photo_links", "image_table", "params:groups"],
                outputs="doubts",
                name="find_doubts",
                namespace=NAMESPACE,
            ),
        ]
    )


def create_page_pipeline() -> Pipeline:
    """Return the step that writes the page of the collection."""
    return Pipeline(
        [
            Node(
                nodes.make_collection_page,
                inputs=[
                    "image_table",
                    "image_contents",
                    "audit",
                    "groups",
                    "photo_links",
                    "near_duplicates",
                    "doubts",
                    "params:data_set",
                    "params:groups",
                ],
                outputs="collection_page",
                name="make_collection_page",
                namespace=NAMESPACE,
            ),
        ]
    )


def create_library_pipeline() -> Pipeline:
    """Return the step that keeps what the library needs to open the index."""
    return Pipeline(
        [
            Node(
                nodes.keep_search_options,
                inputs={name: f"params:{name}" for name in (*PARAMETER_MODELS, "variants")},
                outputs="search_options",
                name="keep_search_options",
                namespace=NAMESPACE,
            ),
        ]
    )

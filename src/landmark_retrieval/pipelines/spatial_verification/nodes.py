"""Nodes of the spatial_verification pipeline."""

from __future__ import annotations

import pandas as pd

from landmark_retrieval.collection import SOURCE_ROW, SplitRows
from landmark_retrieval.descriptors import Descriptors
from landmark_retrieval.descriptors.matrix import join_rows
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.knn import KnnGraph, gather_graph
from landmark_retrieval.local_features import LocalFeatureStore
from landmark_retrieval.runtime.sharding import ExecutorConfig, ShardPlan, ShardStore
from landmark_retrieval.verification import (
    ExpansionConfig,
    VerificationConfig,
    candidate_pairs,
    collect_pairs,
    floor_of,
    neighbor_inliers,
    plan_verification,
    rerank,
)
from landmark_retrieval.verification.expansion import expand_in_blocks


def verify_candidates(
    graph: KnnGraph,
    images: pd.DataFrame,
    local_features: ShardStore,
    config: VerificationConfig,
    expansion: ExpansionConfig,
    executor: ExecutorConfig,
) -> ShardPlan:
    """Plan the verification of the top neighbours of every query and index image, each pair once."""
    # A held-out table names the rows that its images have where their features are stored.
    rows = images[SOURCE_ROW].to_numpy() if SOURCE_ROW in images else None
    features = LocalFeatureStore(local_features, rows=rows)
    if features.images != len(images):
        raise LandmarkRetrievalError(
            f"local features are those of {features.images} images, the image table has {len(images)}; "
            "run `kedro run --pipelines features` again"
        )
    both_sides = expansion.database_side or not len(graph.queries)
    pairs = candidate_pairs(graph, config.candidates, both_sides)
    return plan_verification(pairs, features, config, executor)


def collect_verified_pairs(shards: ShardStore) -> pd.DataFrame:
    """Return one row per compared pair with its inliers and homography."""
    return collect_pairs(shards)


def expand_descriptors(
    descriptors: Descriptors,
    graph: KnnGraph,
    pairs: pd.DataFrame,
    shards: ShardStore,
    images: pd.DataFrame,
    verification: VerificationConfig,
    expansion: ExpansionConfig,
) -> Descriptors:
    """Average every descriptor with those of its most reliable verified neighbours; train rows stay.

    The result is streamed in the number type of the input: in float32 and whole it would be the largest thing
    that a run holds and writes.
    """
    rows = SplitRows.from_table(images)
    queries, index = expand_in_blocks(
        descriptors.part(rows.query),
        descriptors.part(rows.index),
        graph,
        pairs,
        expansion,
        verification.candidates,
        floor_of(shards),
        descriptors.matrix.dtype,
    )
    return Descriptors(descriptors.ids, join_rows([queries, index, descriptors.part(rows.train)]))


def rerank_verified(
    neighbor_shards: ShardStore, pairs: pd.DataFrame, shards: ShardStore, config: VerificationConfig
) -> KnnGraph:
    """Join the finished blocks of the search and re-rank verified neighbours on both sides of the graph.

    A list keeps its falling similarities; who stands at each of them changes.
    """
    graph, floor = gather_graph(neighbor_shards), floor_of(shards)
    queries = len(graph.queries)
    of_queries, of_index = (
        rerank(lists, neighbor_inliers(lists.neighbors, first_row, queries, pairs, config.candidates), floor)
        for lists, first_row in ((graph.queries, 0), (graph.index, queries))
    )
    return KnnGraph(of_queries, of_index)

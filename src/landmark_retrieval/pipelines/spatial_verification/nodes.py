"""Nodes of the spatial_verification pipeline."""

from __future__ import annotations

from typing import Any

import pandas as pd

from landmark_retrieval.collection import SOURCE_ROW, SplitRows
from landmark_retrieval.descriptors import Descriptors
from landmark_retrieval.descriptors.matrix import join_rows
from landmark_retrieval.knn import KnnGraph, gather_graph
from landmark_retrieval.local_features import LocalFeaturesConfig, LocalFeatureStore, StoredFeatures
from landmark_retrieval.runtime.sharding import ExecutorConfig, ShardStore
from landmark_retrieval.runtime.store import Store
from landmark_retrieval.verification import (
    ExpansionConfig,
    VerificationConfig,
    calibration,
    candidate_pairs,
    neighbor_inliers,
    rerank,
    verify_pairs,
)
from landmark_retrieval.verification.expansion import expand_in_blocks


def verify_candidates(
    graph: KnnGraph,
    images: pd.DataFrame,
    local_features: StoredFeatures,
    store: Store,
    config: VerificationConfig,
    expansion: ExpansionConfig,
    executor: ExecutorConfig,
) -> pd.DataFrame:
    """Verify the top neighbours of every query and index image, each pair once: inliers and homographies."""
    # A held-out table names the rows that its images have where their features are stored.
    rows = images[SOURCE_ROW].to_numpy() if SOURCE_ROW in images else None
    features = LocalFeatureStore(local_features, rows=rows)
    both_sides = expansion.database_side or not len(graph.queries)
    pairs = candidate_pairs(graph, config.candidates, both_sides)
    return verify_pairs(pairs, features, store, config, executor)


def calibrate_pairs(
    pairs: pd.DataFrame,
    local_features: LocalFeaturesConfig,
    images: pd.DataFrame,
    config: VerificationConfig,
) -> tuple[dict[str, dict[str, Any]], pd.DataFrame]:
    """Fit what inliers prove in this collection; return the fits, and P(same place) of every tried pair."""
    queries, floor = SplitRows.from_table(images).query.stop, config.floor(local_features.extractor.name)
    fits = calibration.calibrate(
        pairs, queries, floor, config.calibration, by_hand=config.min_inliers is not None
    )
    probabilities = pairs[["row_a", "row_b"]].assign(
        probability=calibration.pair_probabilities(pairs, queries, fits)
    )
    return calibration.to_plain(fits), probabilities


def expand_descriptors(
    descriptors: Descriptors,
    graph: KnnGraph,
    pairs: pd.DataFrame,
    fits: dict[str, dict[str, Any]],
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
        calibration.floors(calibration.from_plain(fits), verification.calibration.expand),
        descriptors.matrix.dtype,
    )
    return Descriptors(descriptors.ids, join_rows([queries, index, descriptors.part(rows.train)]))


def rerank_verified(
    neighbor_shards: ShardStore,
    pairs: pd.DataFrame,
    fits: dict[str, dict[str, Any]],
    config: VerificationConfig,
) -> KnnGraph:
    """Join the finished blocks of the search and re-rank verified neighbours on both sides of the graph.

    A list keeps its falling similarities; who stands at each of them changes.
    """
    graph = gather_graph(neighbor_shards)
    floors = calibration.floors(calibration.from_plain(fits), config.calibration.rerank)
    queries = len(graph.queries)
    of_queries, of_index = (
        rerank(lists, neighbor_inliers(lists.neighbors, first_row, queries, pairs, config.candidates), floor)
        for lists, first_row, floor in zip((graph.queries, graph.index), (0, queries), floors, strict=True)
    )
    return KnnGraph(of_queries, of_index)

"""Nodes of the spatial_verification pipeline."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from landmark_retrieval.collection import SOURCE_ROW, SplitRows
from landmark_retrieval.descriptors import Descriptors
from landmark_retrieval.descriptors.matrix import join_rows
from landmark_retrieval.knn import KnnGraph, gather_graph
from landmark_retrieval.local_features import LocalFeatureStore, StoredFeatures
from landmark_retrieval.retrieval.stages import Verified, expand, rerank
from landmark_retrieval.runtime.sharding import ExecutorConfig, ShardStore
from landmark_retrieval.runtime.store import Store
from landmark_retrieval.verification import (
    ExpansionConfig,
    VerificationConfig,
    calibration,
    verify_pairs,
)
from landmark_retrieval.verification.candidates import (
    AGGREGATED,
    BLEND,
    PLACE,
    CandidateList,
    admit_verified,
    descend,
    places_of,
)


def verify_candidates(
    graph: KnnGraph,
    aggregated: KnnGraph,
    images: pd.DataFrame,
    oriented: pd.DataFrame,
    local_features: StoredFeatures,
    store: Store,
    config: VerificationConfig,
    expansion: ExpansionConfig,
    executor: ExecutorConfig,
) -> pd.DataFrame:
    """Verify who is proposed to every query and index image, each pair once: inliers and homographies.

    Beside them stands why a pair was tried: its place in each list, from 1, 0 for none, and `turn`, the
    degrees by which the first photo was turned against the second. Homographies are those of the photos as
    they are.
    """
    # A held-out table names the rows that its images have where their features are stored.
    rows = images[SOURCE_ROW].to_numpy() if SOURCE_ROW in images else None
    features = LocalFeatureStore(local_features, rows=rows)
    both_sides = expansion.database_side or not len(graph.queries)
    lists = [
        CandidateList.from_graph(name, proposals, config.count_of(name), both_sides)
        for name, proposals in ((BLEND, graph), (AGGREGATED, aggregated))
    ]
    table = descend(
        lists,
        lambda pairs: verify_pairs(pairs, features, store, config, executor),
        config.floor(features.extractor),
        config.budget(len(graph.queries) + len(graph.index)),
    )
    pairs = table[["row_a", "row_b"]].to_numpy(np.int64)
    turns = oriented["turn"].to_numpy(np.int64)[pairs if rows is None else rows[pairs]]
    why = {f"{PLACE}{name}": places for name, places in places_of(lists, pairs).items()}
    return table.assign(**why, turn=((turns[:, 0] - turns[:, 1]) % 360).astype(np.int16))


def calibrate_pairs(
    pairs: pd.DataFrame,
    local_features: StoredFeatures,
    images: pd.DataFrame,
    config: VerificationConfig,
) -> tuple[dict[str, dict[str, Any]], pd.DataFrame]:
    """Fit what inliers prove in this collection; return the fits, and P(same place) of every tried pair."""
    queries, floor = SplitRows.from_table(images).query.stop, config.floor(local_features.extractor)
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
    queries, index = descriptors.part(rows.query), descriptors.part(rows.index)
    floors = calibration.floors(calibration.from_plain(fits), verification.calibration.expand)
    if verification.reach is None:
        graph = admit_verified(graph, queries, index, pairs, floors)
    verified = Verified(pairs, len(queries), verification.reach, floors)
    dtype = descriptors.matrix.dtype
    after = (
        expand(queries, index, graph.queries, verified, expansion, dtype=dtype),
        expand(index, index, graph.index, verified, expansion, of_index=True, dtype=dtype),
    )
    return Descriptors(descriptors.ids, join_rows([*after, descriptors.part(rows.train)]))


def rerank_verified(
    neighbor_shards: ShardStore,
    descriptors: Descriptors,
    images: pd.DataFrame,
    pairs: pd.DataFrame,
    fits: dict[str, dict[str, Any]],
    config: VerificationConfig,
) -> KnnGraph:
    """Join the finished blocks of the search and re-rank verified neighbours on both sides of the graph."""
    graph, found = gather_graph(neighbor_shards), calibration.from_plain(fits)
    pairs = calibration.reliable_pairs(pairs, len(graph.queries), found, config.calibration.rerank)
    if config.reach is None:
        rows = SplitRows.from_table(images)
        sides = descriptors.part(rows.query), descriptors.part(rows.index)
        graph = admit_verified(graph, *sides, pairs, (1, 1))
    verified = Verified(pairs, len(graph.queries), config.reach, floors=(1, 1))
    return KnnGraph(rerank(graph.queries, verified), rerank(graph.index, verified, of_index=True))

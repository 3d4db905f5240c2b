"""Nodes of the knn_graph pipeline."""

from __future__ import annotations

import numpy as np
import pandas as pd

from landmark_retrieval.collection import SplitRows
from landmark_retrieval.descriptors import Descriptors, check_ids
from landmark_retrieval.evaluation.ranking import Ranking, RankingConfig
from landmark_retrieval.knn import KnnConfig, KnnGraph, gather_graph, plan_knn_graph, recall_against_exact
from landmark_retrieval.retrieval.stages import ranking_of
from landmark_retrieval.runtime.sharding import ExecutorConfig, ShardPlan, ShardStore


def search_neighbors(
    descriptors: Descriptors, images: pd.DataFrame, config: KnnConfig, executor: ExecutorConfig
) -> ShardPlan:
    """Plan the search of every query and every index image in the index."""
    check_ids(descriptors, images)
    rows = SplitRows.from_table(images)
    return plan_knn_graph(descriptors.part(rows.query), descriptors.part(rows.index), config, executor)


def join_neighbors(shards: ShardStore) -> KnnGraph:
    """Join the finished blocks of the search."""
    return gather_graph(shards)


def measure_recall(descriptors: Descriptors, images: pd.DataFrame, config: KnnConfig) -> float:
    """Return the share of true neighbours that the search finds, on a sample of the index; exact: 1."""
    if config.approximate is None:
        return 1.0
    index = descriptors.part(SplitRows.from_table(images).index)
    return recall_against_exact(index, index, config, exclude=np.arange(len(index), dtype=np.int64))


def rank_neighbors(graph: KnnGraph, config: RankingConfig) -> Ranking:
    """Return the neighbours of the images that are asked as their ranking."""
    return ranking_of(graph.asked, config.length)

"""Nodes of the knn_graph pipeline."""

from __future__ import annotations

import pandas as pd

from landmark_retrieval.data_sets.image_table import SplitRows
from landmark_retrieval.descriptors import Descriptors, check_ids
from landmark_retrieval.evaluation.ranking import Ranking, RankingConfig, cut
from landmark_retrieval.knn import KnnConfig, KnnGraph, build_knn_graph


def build_graph(descriptors: Descriptors, images: pd.DataFrame, config: KnnConfig) -> KnnGraph:
    """Search every query and every index image in the index."""
    check_ids(descriptors, images)
    rows = SplitRows.from_table(images)
    return build_knn_graph(descriptors.matrix[rows.query], descriptors.matrix[rows.index], config)


def rank_neighbors(graph: KnnGraph, config: RankingConfig) -> Ranking:
    """Return the nearest neighbours of the queries as their ranking."""
    return cut(graph.query_neighbors, config.length)

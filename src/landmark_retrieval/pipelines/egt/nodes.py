"""Nodes of the egt pipeline."""

from __future__ import annotations

import pandas as pd

from landmark_retrieval.data_sets import SplitRows, landmark_of
from landmark_retrieval.descriptors import Descriptors
from landmark_retrieval.evaluation.ranking import Ranking, RankingConfig, cut
from landmark_retrieval.graph import (
    CsrGraph,
    EgtConfig,
    LabelBridge,
    LabelBridgeConfig,
    Traversal,
    build_label_bridge,
    explore_exploit,
    explore_exploit_with_labels,
    symmetrize,
)
from landmark_retrieval.knn import KnnConfig, KnnGraph, gather, plan_knn
from landmark_retrieval.sharding import ExecutorConfig, ShardPlan, ShardStore


def symmetrize_graph(graph: KnnGraph) -> CsrGraph:
    """Make the index part of the graph undirected: both directions, the larger weight."""
    return symmetrize(graph.index_neighbors, graph.index_weights)


def traverse(graph: KnnGraph, index_graph: CsrGraph, config: EgtConfig) -> Traversal:
    """Rank by explore-exploit graph traversal from every query."""
    return explore_exploit(graph.query_neighbors, graph.query_weights, index_graph, config)


def search_training_images(
    descriptors: Descriptors,
    images: pd.DataFrame,
    bridge: LabelBridgeConfig,
    config: KnnConfig,
    executor: ExecutorConfig,
) -> ShardPlan:
    """Plan the search for the training images nearest to every query and index image, as many as vote."""
    rows = SplitRows.from_table(images)
    searching = descriptors.part(slice(rows.query.start, rows.index.stop))
    train = descriptors.part(rows.train)
    # The votes are few, so a search among few training images is no reason for a warning about k.
    votes = max(1, min(max(bridge.query_votes, bridge.index_votes), len(train)))
    config = config.model_copy(update={"k": votes})
    return plan_knn(searching, train, config, executor=executor, label="training images")


def vote_labels(shards: ShardStore, images: pd.DataFrame, config: LabelBridgeConfig) -> LabelBridge:
    """Vote a label for every query and index image among its nearest training images."""
    rows, found = SplitRows.from_table(images), gather(shards)
    return build_label_bridge(
        found.neighbors[rows.query],
        found.weights[rows.query],
        found.neighbors[rows.index],
        found.weights[rows.index],
        landmark_of(images)[rows.train],
        config,
    )


def traverse_with_labels(
    graph: KnnGraph,
    index_graph: CsrGraph,
    bridge: LabelBridge,
    descriptors: Descriptors,
    images: pd.DataFrame,
    config: EgtConfig,
    bridge_config: LabelBridgeConfig,
) -> Traversal:
    """Rank by explore-exploit graph traversal in which images of one label are linked first."""
    rows = SplitRows.from_table(images)
    return explore_exploit_with_labels(
        graph.query_neighbors,
        graph.query_weights,
        index_graph,
        bridge,
        config,
        bridge_config,
        descriptors.part(rows.query),
        descriptors.part(rows.index),
    )


def rank_traversal(traversal: Traversal, config: RankingConfig) -> Ranking:
    """Return what a traversal reached as the ranking."""
    return cut(traversal.ranking, config.length)

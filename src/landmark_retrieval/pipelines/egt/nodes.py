"""Nodes of the egt pipeline."""

from __future__ import annotations

from typing import Any

import pandas as pd

from landmark_retrieval.collection import SplitRows, landmark_of
from landmark_retrieval.descriptors import Descriptors
from landmark_retrieval.evaluation.ranking import Ranking, RankingConfig, cut
from landmark_retrieval.graph import (
    CsrGraph,
    EgtConfig,
    LabelBridge,
    LabelBridgeConfig,
    OpenEgtConfig,
    OpenLabelBridgeConfig,
    Traversal,
    build_label_bridge,
    explore_exploit,
    explore_exploit_with_labels,
    settle,
    symmetrize,
)
from landmark_retrieval.knn import KnnConfig, KnnGraph, gather, plan_knn
from landmark_retrieval.runtime.sharding import ExecutorConfig, ShardPlan, ShardStore


def symmetrize_graph(graph: KnnGraph) -> CsrGraph:
    """Make the index part of the graph undirected: both directions, the larger weight."""
    return symmetrize(graph.index)


def settle_options(
    egt: OpenEgtConfig, bridge: OpenLabelBridgeConfig, chosen: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Fill the options that the parameters leave open."""
    names = ("egt", "label_bridge")
    settled = zip(names, settle(egt, bridge, chosen), strict=True)
    return {name: config.model_dump(mode="json") for name, config in settled}


def traverse(
    graph: KnnGraph, index_graph: CsrGraph, images: pd.DataFrame, options: dict[str, dict[str, Any]]
) -> Traversal:
    """Rank by explore-exploit graph traversal from every image that is asked."""
    config, own = EgtConfig(**options["egt"]), SplitRows.from_table(images).own
    return explore_exploit(graph.asked, index_graph, config, own)


def search_train_images(
    descriptors: Descriptors,
    images: pd.DataFrame,
    options: dict[str, dict[str, Any]],
    config: KnnConfig,
    executor: ExecutorConfig,
) -> ShardPlan:
    """Plan the search for the train images nearest to every query and index image, as many as vote."""
    bridge = LabelBridgeConfig(**options["label_bridge"])
    votes = max(bridge.query_votes, bridge.index_votes)
    return plan_train_search(descriptors, images, votes, config, executor)


def plan_train_search(
    descriptors: Descriptors, images: pd.DataFrame, votes: int, config: KnnConfig, executor: ExecutorConfig
) -> ShardPlan:
    """Plan the search for the train images that vote, of queries and index images in one."""
    rows = SplitRows.from_table(images)
    searching = descriptors.part(slice(rows.query.start, rows.index.stop))
    train = descriptors.part(rows.train)
    # The votes are few, so a search among few train images is no reason for a warning about k.
    config = config.model_copy(update={"k": max(1, min(votes, len(train)))})
    return plan_knn(searching, train, config, executor=executor, label="train images")


def vote_labels(shards: ShardStore, images: pd.DataFrame, options: dict[str, dict[str, Any]]) -> LabelBridge:
    """Vote a label for every query and index image among its nearest train images."""
    rows, found = SplitRows.from_table(images), gather(shards)
    return build_label_bridge(
        found[rows.asked],
        found[rows.index],
        landmark_of(images)[rows.train],
        LabelBridgeConfig(**options["label_bridge"]),
    )


def traverse_with_labels(
    graph: KnnGraph,
    index_graph: CsrGraph,
    bridge: LabelBridge,
    descriptors: Descriptors,
    images: pd.DataFrame,
    options: dict[str, dict[str, Any]],
) -> Traversal:
    """Rank by explore-exploit graph traversal in which images of one label are linked first."""
    rows = SplitRows.from_table(images)
    return explore_exploit_with_labels(
        graph.asked,
        index_graph,
        bridge,
        EgtConfig(**options["egt"]),
        LabelBridgeConfig(**options["label_bridge"]),
        descriptors.part(rows.asked),
        descriptors.part(rows.index),
        rows.own,
    )


def rank_traversal(traversal: Traversal, config: RankingConfig) -> Ranking:
    """Return what a traversal reached as the ranking."""
    return cut(traversal.ranking, config.length)

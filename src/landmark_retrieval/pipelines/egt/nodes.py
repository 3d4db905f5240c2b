"""Nodes of the egt pipeline."""

from __future__ import annotations

import logging
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
from landmark_retrieval.graph.label_evidence import NO_MODEL, LabelEvidence, no_labels, own_similarity
from landmark_retrieval.graph.label_ranking import rank_by_labels
from landmark_retrieval.knn import KnnConfig, KnnGraph, gather, plan_knn
from landmark_retrieval.retrieval import evidence
from landmark_retrieval.retrieval.evidence import TRAIN_NEIGHBORS, traverse_trusted
from landmark_retrieval.runtime.sharding import ExecutorConfig, ShardPlan, ShardStore

logger = logging.getLogger(__name__)


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
    graph: KnnGraph,
    index_graph: CsrGraph,
    pairs: pd.DataFrame,
    descriptors: Descriptors,
    images: pd.DataFrame,
    options: dict[str, dict[str, Any]],
) -> Traversal:
    """Rank by graph traversal from every image that is asked: over verified edges, or over similarities."""
    config, rows = EgtConfig(**options["egt"]), SplitRows.from_table(images)
    if config.weights == "verified" and pairs.empty:
        logger.info("No photos were compared, so no edge is verified: similarities are traversed.")
    if config.weights == "similarity" or pairs.empty:
        return explore_exploit(graph.asked, index_graph, config, rows.own)
    asked, index = descriptors.part(rows.asked), descriptors.part(rows.index)
    return traverse_trusted(graph, pairs, asked, index, config, rows.own)


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
    if bridge.precedence == "evidence":
        votes = max(votes, TRAIN_NEIGHBORS)
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


def weigh_labels(
    graph: KnnGraph,
    shards: ShardStore,
    pairs: pd.DataFrame,
    descriptors: Descriptors,
    images: pd.DataFrame,
    options: dict[str, dict[str, Any]],
    knn: KnnConfig,
) -> LabelEvidence:
    """Fit what labels prove on the train split; nothing where labels that are voted always come first."""
    rows, found = SplitRows.from_table(images), gather(shards)
    if LabelBridgeConfig(**options["label_bridge"]).precedence == "always":
        asked, index = (no_labels(len(found[part].neighbors)) for part in (rows.asked, rows.index))
        return LabelEvidence(asked, index, NO_MODEL)
    return evidence.weigh_labels(
        graph,
        pairs,
        found[rows.asked],
        found[rows.index],
        descriptors.part(rows.index),
        descriptors.part(rows.train),
        landmark_of(images)[rows.train],
        EgtConfig(**options["egt"]).trust,
        knn,
    )


def vote_labels(
    shards: ShardStore, labels: LabelEvidence, images: pd.DataFrame, options: dict[str, dict[str, Any]]
) -> LabelBridge:
    """Give a label to every query and index image: by evidence, or by votes of its nearest train images."""
    rows, found = SplitRows.from_table(images), gather(shards)
    asked, index, train = found[rows.asked], found[rows.index], landmark_of(images)[rows.train]
    config = LabelBridgeConfig(**options["label_bridge"])
    if config.precedence == "always":
        return build_label_bridge(asked, index, train, config)
    return evidence.bridge_of(labels, asked, index, train, EgtConfig(**options["egt"]).trust)


def traverse_with_labels(
    graph: KnnGraph,
    index_graph: CsrGraph,
    bridge: LabelBridge,
    labels: LabelEvidence,
    plain: Traversal,
    descriptors: Descriptors,
    images: pd.DataFrame,
    options: dict[str, dict[str, Any]],
) -> Traversal:
    """Rank with labels: as evidence behind what `plain` trusts, or before everything in a traversal."""
    rows = SplitRows.from_table(images)
    config, bridge_config = EgtConfig(**options["egt"]), LabelBridgeConfig(**options["label_bridge"])
    asked, index = descriptors.part(rows.asked), descriptors.part(rows.index)
    if bridge_config.precedence == "always":
        return explore_exploit_with_labels(
            graph.asked, index_graph, bridge, config, bridge_config, asked, index, rows.own
        )
    if not labels.fitted:
        return plain
    own = own_similarity(graph.asked.weights)
    sides = (labels.asked, labels.index)
    return rank_by_labels(plain, graph.asked, own, *sides, labels.model, asked, index, config.trust, rows.own)


def rank_traversal(traversal: Traversal, config: RankingConfig) -> Ranking:
    """Return what a traversal reached as the ranking."""
    return cut(traversal.ranking, config.length)

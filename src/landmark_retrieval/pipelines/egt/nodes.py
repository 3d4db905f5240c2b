"""Nodes of the egt pipeline."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pandas as pd

from landmark_retrieval.collection import SplitRows, landmark_of
from landmark_retrieval.descriptors import Descriptors
from landmark_retrieval.evaluation.ranking import Ranking, RankingConfig
from landmark_retrieval.graph import (
    CsrGraph,
    EgtConfig,
    LabelBridge,
    LabelBridgeConfig,
    Traversal,
    TraversalConfig,
    build_label_bridge,
    settle,
    symmetrize,
)
from landmark_retrieval.graph.label_evidence import NO_MODEL, LabelEvidence, no_labels
from landmark_retrieval.knn import KnnConfig, KnnGraph, gather, plan_knn
from landmark_retrieval.retrieval import evidence
from landmark_retrieval.retrieval.evidence import TRAIN_NEIGHBORS
from landmark_retrieval.retrieval.stages import Searched, ranking_of
from landmark_retrieval.retrieval.variants import Variant
from landmark_retrieval.runtime.sharding import ExecutorConfig, ShardPlan, ShardStore

logger = logging.getLogger(__name__)


def symmetrize_graph(graph: KnnGraph) -> CsrGraph:
    """Make the index part of the graph undirected: both directions, the larger weight."""
    return symmetrize(graph.index)


def settle_options(
    egt: EgtConfig, bridge: LabelBridgeConfig, chosen: dict[str, dict[str, Any]]
) -> TraversalConfig:
    """Fill the options that the parameters leave open."""
    return settle(egt, bridge, chosen)


def search_train_images(
    descriptors: Descriptors,
    images: pd.DataFrame,
    options: TraversalConfig,
    config: KnnConfig,
    executor: ExecutorConfig,
) -> ShardPlan:
    """Plan the search for the train images nearest to every query and index image, as many as vote."""
    votes = options.label_bridge.most_votes
    if options.label_bridge.precedence == "evidence":
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
    options: TraversalConfig,
    knn: KnnConfig,
) -> LabelEvidence:
    """Fit what labels prove on the train split; nothing where labels that are voted always come first."""
    rows, found = SplitRows.from_table(images), gather(shards)
    if options.label_bridge.precedence == "always":
        asked, index = (no_labels(len(found[part])) for part in (rows.asked, rows.index))
        return LabelEvidence(asked, index, NO_MODEL)
    return evidence.weigh_labels(
        graph,
        pairs,
        found[rows.asked],
        found[rows.index],
        descriptors.part(rows.index),
        descriptors.part(rows.train),
        landmark_of(images)[rows.train],
        options.egt.trust,
        knn,
    )


def vote_labels(
    shards: ShardStore, labels: LabelEvidence, images: pd.DataFrame, options: TraversalConfig
) -> LabelBridge:
    """Give a label to every query and index image: by evidence, or by votes of its nearest train images."""
    rows, found = SplitRows.from_table(images), gather(shards)
    asked, index, train = found[rows.asked], found[rows.index], landmark_of(images)[rows.train]
    if options.label_bridge.precedence == "always":
        return build_label_bridge(asked, index, train, options.label_bridge)
    return evidence.bridge_of(labels, asked, index, train, options.egt.trust)


def rank_by(variant: Variant) -> Callable[..., Traversal | Ranking]:
    """Return the node function that ranks the neighbours of all queries by a variant."""

    def rank(
        graph: KnnGraph,
        index_graph: CsrGraph,
        pairs: pd.DataFrame,
        descriptors: Descriptors,
        images: pd.DataFrame,
        options: TraversalConfig,
        config: RankingConfig,
        bridge: LabelBridge | None = None,
        labels: LabelEvidence | None = None,
    ) -> Traversal | Ranking:
        """Rank the neighbours of all images that are asked."""
        assert variant.rank is not None
        rows = SplitRows.from_table(images)
        if options.egt.weights == "verified" and pairs.empty:
            logger.info("No photos were compared, so no edge is verified: similarities are traversed.")
        searched = Searched(
            graph.asked,
            index_graph,
            options,
            descriptors.part(rows.asked),
            descriptors.part(rows.index),
            None if pairs.empty else evidence.trusted_edges(pairs, graph, options.egt.trust),
            own=rows.own,
            index_neighbors=graph.index,
        )
        if bridge is not None:
            searched = searched.with_labels(bridge, labels)
        found = variant.rank(searched)
        return found if isinstance(found, Traversal) else ranking_of(found, config.length)

    return rank


def rank_traversal(traversal: Traversal, config: RankingConfig) -> Ranking:
    """Return what a traversal reached as the ranking."""
    return ranking_of(traversal, config.length)

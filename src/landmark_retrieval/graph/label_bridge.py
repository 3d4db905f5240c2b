"""Label bridges: semi-supervised EGT through a labelled train set.

Chang et al., "Semi-Supervised Exploration in Image Retrieval", 2019. The train images nearest to an image
vote for its label; a labelled image is linked to its most similar train image of that label, and all
train images of one label are linked to each other, each with the maximum weight. A hub vertex per label
is the same graph without its quadratically many edges: from an image the traversal reaches, through the hub,
all index images of the same label. Label edges come before every similarity edge, whatever t is, and count
as the edge that every round takes. Train images and hubs are walked through and never returned.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from landmark_retrieval.configuration import OpenConfiguration, Threshold
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.graph.egt import (
    NO_DESCRIPTORS,
    NO_HUBS,
    EgtConfig,
    Hubs,
    Traversal,
    explore_exploit_lists,
)
from landmark_retrieval.graph.graph import CsrGraph, as_lists
from landmark_retrieval.graph.kernel import ORDER_QUERY_NEIGHBORS, ORDER_QUERY_SIMILARITY, ORDER_STORED
from landmark_retrieval.knn import NeighborLists

logger = logging.getLogger(__name__)

NO_LABEL = -1

VoteCount = Annotated[int, Field(ge=1, le=1000)]
"""Nearest train images that vote."""

Order = Literal["query_similarity", "query_neighbors", "train_similarity", "row"]
"""Order in which the images of one label come out, see `LabelBridgeConfig`."""


class LabelBridgeConfig(OpenConfiguration):
    """How labels are voted and used.

    Attributes:
        precedence: `always`: labels that were voted come before everything else (the paper). `evidence`:
            labels are worth what leaving photos and landmarks out says (`graph.label_evidence`), behind what
            geometry proves; votes, their floor and the order are not used.
        query_votes: nearest train images that vote for a query's label (the paper: 3); a label needs a
            strict majority of this number, however many of them have a label.
        index_votes: the same for index images (the paper: 3; the authors' released program: 5).
        min_similarity: inner product below which a train image does not vote; -.inf for no floor (the
            paper, where four million images vote). Whitened descriptors of unrelated photos have inner
            product 0 on average.
        order: in which order the images of one label come out. `query_similarity`: by the inner product of
            their descriptors with the query's; `query_neighbors`: those in the query's own list of
            neighbours first, by similarity, then as `train_similarity`; `train_similarity`: by the
            similarity to the train image that they are linked to; `row`: as in the table. The paper does
            not say.
    """

    model_config = ConfigDict(ser_json_inf_nan="strings")

    DEFAULTS: ClassVar = {
        "query_votes": 3,
        "index_votes": 3,
        "min_similarity": 0.0,
        "order": "query_similarity",
    }

    precedence: Literal["evidence", "always"] = "evidence"
    query_votes: VoteCount | None = None
    index_votes: VoteCount | None = None
    min_similarity: Threshold | None = Field(default=None, le=1)
    order: Order | None = None

    @property
    def most_votes(self) -> int:
        """Train images that must be searched for each image."""
        settled = self.settled()
        assert settled.query_votes is not None and settled.index_votes is not None
        return max(settled.query_votes, settled.index_votes)


@dataclass(frozen=True, eq=False)
class Votes:
    """What the nearest train images say of some images.

    Attributes:
        label: int64 `[n]` label of each image, -1 for none.
        train_row: int32 `[n]` train row that the image is linked to, -1 for none.
        similarity: float32 `[n]` similarity to it, -inf for none.
    """

    label: NDArray[np.int64]
    train_row: NDArray[np.int32]
    similarity: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.label)


@dataclass(frozen=True, eq=False)
class LabelBridge:
    """The labels that were voted, and by which train images.

    Attributes:
        queries: votes for each query.
        index: votes for each index image.
        train_label: int64 `[t]` labels of the train images, -1 for none.
    """

    queries: Votes
    index: Votes
    train_label: NDArray[np.int64]


def vote_labels(
    nearest: NeighborLists, train_labels: NDArray[np.int64], votes: int, min_similarity: float = -np.inf
) -> Votes:
    """Let the nearest train images vote for the label of each image.

    Args:
        nearest: `[n, k]` train rows in descending similarity, -1 padded; only the first `votes` count.
        train_labels: int64 `[t]`, -1 for none: such an image votes for no label.
        votes: how many vote. A label needs more than half of this number; otherwise there is none.
        min_similarity: train images less similar than this do not vote.

    Returns:
        The labels, and of each the most similar train image that has it.

    Raises:
        LandmarkRetrievalError: when fewer than `votes` neighbours were searched although there are more
            train images, or a neighbour is not one of them.
    """
    n, k = nearest.neighbors.shape
    train = np.append(np.asarray(train_labels, np.int64), NO_LABEL)
    if k < min(votes, len(train) - 1):
        raise LandmarkRetrievalError(
            f"label votes: {votes} train images must vote but only {k} neighbours were searched; "
            "search at least as many as the larger of query_votes and index_votes"
        )
    near = np.asarray(nearest.neighbors[:, :votes], np.int64)
    if near.max(initial=-1) >= len(train) - 1:
        raise LandmarkRetrievalError(
            f"label votes: neighbour {near.max()} is not one of {len(train) - 1} train images; "
            "search the train images again"
        )
    near_similarity = np.asarray(nearest.weights[:, :votes], np.float32)
    labels = train[near]  # padding reads the last entry, which has no label
    labels[near_similarity < min_similarity] = NO_LABEL
    label = np.full(n, NO_LABEL, np.int64)
    row = np.full(n, -1, np.int32)
    similarity = np.full(n, -np.inf, np.float32)
    for column in reversed(range(labels.shape[1])):  # the most similar one of the winners is written last
        candidate = labels[:, column]
        wins = (candidate != NO_LABEL) & (2 * (labels == candidate[:, None]).sum(axis=1) > votes)
        label[wins] = candidate[wins]
        row[wins] = near[wins, column]
        similarity[wins] = near_similarity[wins, column]
    return Votes(label, row, similarity)


def vote_queries(nearest: NeighborLists, train_labels: NDArray[np.int64], config: LabelBridgeConfig) -> Votes:
    """Let the nearest train images vote for queries, as many as the parameters say; as `vote_labels`."""
    settled = config.settled().model_dump()
    return vote_labels(nearest, train_labels, settled["query_votes"], settled["min_similarity"])


def build_label_bridge(
    queries: NeighborLists,
    index: NeighborLists,
    train_labels: NDArray[np.int64],
    config: LabelBridgeConfig,
) -> LabelBridge:
    """Vote the labels of all queries and index images.

    Args:
        queries: `[q, k]` train rows nearest to each query, in descending similarity, -1 padded.
        index: `[n, k]` the same for index images.
        train_labels: int64 `[t]`, -1 for none; may be empty.
        config: parameters; `order` is not used here.

    Returns:
        What `vote_labels` says of either side, and the labels of the train images.

    Raises:
        LandmarkRetrievalError: as `vote_labels`.
    """
    settled = config.settled().model_dump()
    return LabelBridge(
        queries=vote_queries(queries, train_labels, config),
        index=vote_labels(index, train_labels, settled["index_votes"], settled["min_similarity"]),
        train_label=np.asarray(train_labels, np.int64),
    )


def label_hubs(
    bridge: LabelBridge, config: LabelBridgeConfig, index_descriptors: NDArray[Any] | None = None
) -> Hubs:
    """Gather the index images of each label, in the order in which they come out.

    Args:
        bridge: voted labels; those of the queries are not used (`with_queries`).
        config: parameters; only `order` is used here.
        index_descriptors: `[n, d]`, for `query_similarity` only; another dtype than float32 is copied.

    Returns:
        One hub for every label that an index image has, in ascending order of the labels, without queries.
        Without voted labels `NO_HUBS`, and a log line says so.

    Raises:
        LandmarkRetrievalError: when `query_similarity` lacks descriptors or they do not fit the bridge.
    """
    votes, order = bridge.index, config.settled().order
    labelled = np.flatnonzero(votes.label != NO_LABEL)
    if len(labelled) == 0:
        reason = "there are no train images" if len(bridge.train_label) == 0 else "no label was voted"
        logger.warning("Label bridges have no effect, because %s: the ranking is that of plain EGT.", reason)
        return NO_HUBS
    hub_labels, hub_of_labelled = np.unique(votes.label[labelled], return_inverse=True)
    index_hub = np.full(len(votes), -1, np.int32)
    index_hub[labelled] = hub_of_labelled
    by_similarity = order in ("train_similarity", "query_neighbors")
    keys = -votes.similarity[labelled] if by_similarity else labelled
    members = labelled[np.lexsort((labelled, keys, hub_of_labelled))].astype(np.int32)
    kind = {"query_similarity": ORDER_QUERY_SIMILARITY, "query_neighbors": ORDER_QUERY_NEIGHBORS}
    index = NO_DESCRIPTORS
    if order == "query_similarity":
        index = _descriptors(index_descriptors, len(votes), "index images")
    return Hubs(
        labels=hub_labels,
        query_hub=np.zeros(0, np.int32),
        index_hub=index_hub,
        indptr=np.append(0, np.cumsum(np.bincount(hub_of_labelled, minlength=len(hub_labels)))),
        members=members,
        order=kind.get(order or "", ORDER_STORED),
        query_descriptors=NO_DESCRIPTORS,
        index_descriptors=index,
    )


def with_queries(hubs: Hubs, queries: Votes, descriptors: NDArray[Any] | None = None) -> Hubs:
    """Return the hubs with the queries that they are for.

    Args:
        hubs: of the index images.
        queries: labels of the queries.
        descriptors: `[q, d]`, for `query_similarity` only; another dtype than float32 is copied.

    Raises:
        LandmarkRetrievalError: when `query_similarity` lacks descriptors or they do not fit.
    """
    if hubs is NO_HUBS:
        return hubs
    query_hub = np.full(len(queries), -1, np.int32)
    place = np.minimum(np.searchsorted(hubs.labels, queries.label), len(hubs.labels) - 1)
    known = hubs.labels[place] == queries.label
    query_hub[known] = place[known]
    if hubs.order != ORDER_QUERY_SIMILARITY:
        return replace(hubs, query_hub=query_hub)
    ours = _descriptors(descriptors, len(queries), "queries")
    if ours.shape[1] != hubs.index_descriptors.shape[1]:
        raise LandmarkRetrievalError(
            f"label bridge: descriptors of queries have {ours.shape[1]} dimensions and those of index images "
            f"{hubs.index_descriptors.shape[1]}; extract them again"
        )
    return replace(hubs, query_hub=query_hub, query_descriptors=ours)


def _descriptors(descriptors: NDArray[Any] | None, count: int, what: str) -> NDArray[np.float32]:
    """Return descriptors as float32, or refuse them."""
    if descriptors is None:
        raise LandmarkRetrievalError(
            f"label bridge: order 'query_similarity' needs the descriptors of {what}; "
            "give them or choose 'query_neighbors'"
        )
    if len(descriptors) != count:
        raise LandmarkRetrievalError(
            f"label bridge: descriptors have shape {descriptors.shape} for {count} {what}; extract them again"
        )
    return np.asarray(descriptors, np.float32)


def explore_exploit_with_labels(
    queries: NeighborLists,
    index_graph: CsrGraph,
    hubs: Hubs,
    votes: Votes,
    config: EgtConfig,
    query_descriptors: NDArray[Any] | None = None,
    own: NDArray[np.int64] | None = None,
) -> Traversal:
    """Traverse the graph from every query, through label bridges first.

    Args:
        queries: `[q, k]` index rows nearest to each query, -1 padded, and their similarities.
        index_graph: undirected graph of the n index images (`symmetrize`).
        hubs: images of the same index by label (`label_hubs`).
        votes: labels of the same queries.
        config: parameters of the traversal.
        query_descriptors: `[q, d]`, needed for the order `query_similarity` only.
        own: int64 `[q]` the index row that is the query itself and left out, -1 for none.

    Returns:
        The results. Without voted labels they are those of `explore_exploit`.

    Raises:
        LandmarkRetrievalError: when shapes differ, or descriptors are needed and missing.
    """
    labelled = len(index_graph) if hubs is NO_HUBS else len(hubs.index_hub)
    if len(votes) != len(queries) or labelled != len(index_graph):
        raise LandmarkRetrievalError(
            f"label bridge: has {len(votes)} queries and {labelled} index images "
            f"but the graph has {len(queries)} and {len(index_graph)}; vote the labels again"
        )
    ours = with_queries(hubs, votes, query_descriptors)
    return explore_exploit_lists(as_lists(queries), index_graph, config, ours, own=own)


def label_path(
    bridge: LabelBridge, query: int, source: int, target: int
) -> tuple[int, NDArray[np.float32], NDArray[np.int32]]:
    """Explain a label edge of a trusted path: source - train image - train image - target.

    Args:
        bridge: voted labels.
        query: row of the query whose path it is.
        source: index row, -1 for the query itself.
        target: index row.

    Returns:
        The label, the float32 `[2]` similarities of source and target to the train images that they are
        linked to, and the int32 `[2]` train rows (equal when both are linked to the same image).
    """
    if source < 0:
        row, similarity = bridge.queries.train_row[query], bridge.queries.similarity[query]
    else:
        row, similarity = bridge.index.train_row[source], bridge.index.similarity[source]
    return (
        int(bridge.index.label[target]),
        np.array([similarity, bridge.index.similarity[target]], np.float32),
        np.array([row, bridge.index.train_row[target]], np.int32),
    )

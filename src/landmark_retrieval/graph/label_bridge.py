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
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from landmark_retrieval.configuration import Configuration
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.graph.egt import NO_DESCRIPTORS, EgtConfig, Hubs, Traversal, explore_exploit_lists
from landmark_retrieval.graph.graph import CsrGraph, as_lists
from landmark_retrieval.graph.kernel import ORDER_QUERY_NEIGHBORS, ORDER_QUERY_SIMILARITY, ORDER_STORED
from landmark_retrieval.knn import NeighborLists

logger = logging.getLogger(__name__)

NO_LABEL = -1


class LabelBridgeConfig(Configuration):
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

    precedence: Literal["evidence", "always"] = "evidence"
    query_votes: int = Field(default=3, ge=1)
    index_votes: int = Field(default=3, ge=1)
    min_similarity: float = 0.0
    order: Literal["query_similarity", "query_neighbors", "train_similarity", "row"] = "query_similarity"


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
    floor = config.min_similarity
    return LabelBridge(
        queries=vote_labels(queries, train_labels, config.query_votes, floor),
        index=vote_labels(index, train_labels, config.index_votes, floor),
        train_label=np.asarray(train_labels, np.int64),
    )


def label_hubs(
    bridge: LabelBridge,
    order: str,
    query_descriptors: NDArray[Any] | None = None,
    index_descriptors: NDArray[Any] | None = None,
) -> Hubs:
    """Gather the index images of each label, in the order in which they come out.

    Args:
        bridge: voted labels.
        order: of `LabelBridgeConfig`.
        query_descriptors: `[q, d]`, for `query_similarity` only.
        index_descriptors: `[n, d]`, for `query_similarity` only.

    Returns:
        One hub for every label that an index image has, in ascending order of the labels.

    Raises:
        LandmarkRetrievalError: when `query_similarity` lacks descriptors or they do not fit the bridge.
    """
    labelled = np.flatnonzero(bridge.index.label != NO_LABEL)
    hub_labels, hub_of_labelled = np.unique(bridge.index.label[labelled], return_inverse=True)
    index_hub = np.full(len(bridge.index.label), -1, np.int32)
    index_hub[labelled] = hub_of_labelled
    by_similarity = order in ("train_similarity", "query_neighbors")
    keys = -bridge.index.similarity[labelled] if by_similarity else labelled
    members = labelled[np.lexsort((labelled, keys, hub_of_labelled))].astype(np.int32)
    kind = {"query_similarity": ORDER_QUERY_SIMILARITY, "query_neighbors": ORDER_QUERY_NEIGHBORS}
    queries = index = NO_DESCRIPTORS
    if order == "query_similarity":
        queries, index = _matching_descriptors(bridge, query_descriptors, index_descriptors)
    return Hubs(
        query_hub=hubs_of(bridge.queries.label, hub_labels),
        index_hub=index_hub,
        indptr=np.append(0, np.cumsum(np.bincount(hub_of_labelled, minlength=len(hub_labels)))),
        members=members,
        order=kind.get(order, ORDER_STORED),
        query_descriptors=queries,
        index_descriptors=index,
    )


def hubs_of(labels: NDArray[np.int64], hub_labels: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return the hub of each label, int32, -1 where there is none.

    Args:
        labels: int64 `[q]`, -1 for none.
        hub_labels: int64 `[hubs]`, the label of each hub, ascending.
    """
    hubs = np.full(len(labels), -1, np.int32)
    if len(hub_labels):
        place = np.minimum(np.searchsorted(hub_labels, labels), len(hub_labels) - 1)
        known = hub_labels[place] == labels
        hubs[known] = place[known]
    return hubs


def _matching_descriptors(
    bridge: LabelBridge, queries: NDArray[Any] | None, index: NDArray[Any] | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return descriptors as float32, or refuse them."""
    if queries is None or index is None:
        raise LandmarkRetrievalError(
            "label bridge: order 'query_similarity' needs the descriptors of queries and index images; "
            "give them or choose 'query_neighbors'"
        )
    expected = (len(bridge.queries.label), len(bridge.index.label))
    if (len(queries), len(index)) != expected or queries.shape[1] != index.shape[1]:
        raise LandmarkRetrievalError(
            f"label bridge: descriptors have shapes {queries.shape} and {index.shape} for "
            f"{expected[0]} queries and {expected[1]} index images; extract them again"
        )
    return np.asarray(queries, np.float32), np.asarray(index, np.float32)


def explore_exploit_with_labels(
    queries: NeighborLists,
    index_graph: CsrGraph,
    bridge: LabelBridge,
    config: EgtConfig,
    bridge_config: LabelBridgeConfig,
    query_descriptors: NDArray[Any] | None = None,
    index_descriptors: NDArray[Any] | None = None,
    own: NDArray[np.int64] | None = None,
) -> Traversal:
    """Traverse the graph from every query, through label bridges first.

    Args:
        queries: `[q, k]` index rows nearest to each query, -1 padded, and their similarities.
        index_graph: undirected graph of the n index images (`symmetrize`).
        bridge: voted labels of the same queries and index images.
        config: parameters of the traversal.
        bridge_config: parameters of the bridge; only `order` is used here.
        query_descriptors: `[q, d]`, needed for the order `query_similarity` only.
        index_descriptors: `[n, d]`, likewise; another dtype than float32 is copied.
        own: int64 `[q]` the index row that is the query itself and left out, -1 for none.

    Returns:
        The results. Without voted labels they are those of `explore_exploit`, and a log line says so.

    Raises:
        LandmarkRetrievalError: when shapes differ, or descriptors are needed and missing.
    """
    if len(bridge.queries) != len(queries) or len(bridge.index) != len(index_graph):
        raise LandmarkRetrievalError(
            f"label bridge: has {len(bridge.queries)} queries and {len(bridge.index)} index images "
            f"but the graph has {len(queries)} and {len(index_graph)}; vote the labels again"
        )
    lists = as_lists(queries)
    if not (bridge.index.label != NO_LABEL).any():
        reason = "there are no train images" if len(bridge.train_label) == 0 else "no label was voted"
        logger.warning("Label bridges have no effect, because %s: the ranking is that of plain EGT.", reason)
        return explore_exploit_lists(lists, index_graph, config, own=own)
    hubs = label_hubs(bridge, bridge_config.order, query_descriptors, index_descriptors)
    return explore_exploit_lists(lists, index_graph, config, hubs, own=own)


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

"""Ranking by trusted paths first and label evidence behind them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from landmark_retrieval.graph.egt import Traversal
from landmark_retrieval.graph.kernel import LABEL_EDGE, SIMILARITY_EDGE, VERIFIED_EDGE
from landmark_retrieval.graph.label_evidence import (
    LabelModel,
    LabelPosterior,
    divisor,
    prior_log_odds,
)
from landmark_retrieval.knn.neighbors import NeighborLists

LEAST_LABEL = 0.01
"""Probability of a query's label from which all its photos are weighed, not the query's neighbours alone."""


def rank_by_labels(
    trusted: Traversal,
    neighbors: NeighborLists,
    own: NDArray[np.float32],
    queries: LabelPosterior,
    index: LabelPosterior,
    model: LabelModel,
    query_descriptors: NDArray[Any],
    index_descriptors: NDArray[Any],
    trust: float,
    own_rows: NDArray[np.int64] | None = None,
) -> Traversal:
    """Put photos in the order of the odds that they show the query's landmark, behind the trusted ones.

    The odds are those of the labels times what the similarity of the expanded descriptors adds.

    Args:
        trusted: calibrated traversal of all queries (`rank_trusted`).
        neighbors: `[q, k]` the ranking of QE-SV.
        own: float32 `[q]` similarity of each query to its own three nearest index photos.
        queries: posteriors of the queries.
        index: posteriors of the index photos.
        model: of `fit_labels`.
        query_descriptors: `[q, d]` expanded, possibly memory-mapped.
        index_descriptors: `[n, d]` likewise.
        trust: probability from which both photos' label counts as given, so that the edge is a label's.
        own_rows: int64 `[q]` the index row that is the query itself and left out, -1 for none.

    Returns:
        The results, verified ones as they were. A photo whose given label is the query's comes over a label
        edge (kind 2, weight +inf), any other over its similarity.
    """
    members = _members(index, trusted.ranking.shape[1])
    of_query, of_index = queries.given(trust), index.given(trust)
    scale = divisor(own, model.usual)
    result = Traversal(*(array.copy() for array in vars(trusted).values()))
    for q in range(len(neighbors)):
        kept = int((trusted.kinds[q] == VERIFIED_EDGE).sum())
        rows = _candidates(q, neighbors, queries, members)
        placed = trusted.ranking[q, :kept]
        rows = rows[~np.isin(rows, placed if own_rows is None else np.append(placed, own_rows[q]))]
        similarity = index_descriptors[rows].astype(np.float32) @ query_descriptors[q].astype(np.float32)
        odds = prior_log_odds(queries, q, index, rows, model)
        odds += model.similarity * similarity / scale[q]
        order = np.argsort(-odds, kind="stable")[: result.ranking.shape[1] - kept]
        place = slice(kept, kept + len(order))
        agree = (of_query[q] >= 0) & (of_index[rows[order]] == of_query[q])
        result.ranking[q, place] = rows[order]
        result.scores[q, place] = np.where(agree, np.inf, similarity[order])
        result.parents[q, place] = -1
        result.kinds[q, place] = np.where(agree, LABEL_EDGE, SIMILARITY_EDGE)
    return result


def _members(index: LabelPosterior, most: int) -> dict[int, NDArray[np.int32]]:
    """Return by label the index rows that likeliest have it, `most` at most."""
    photo, column = np.nonzero(index.labels >= 0)
    label, probability = index.labels[photo, column], index.probabilities[photo, column]
    order = np.lexsort((photo, -probability, label))
    names, starts = np.unique(label[order], return_index=True)
    parts = np.split(photo[order].astype(np.int32), starts[1:]) if len(names) else []
    return {int(name): part[:most] for name, part in zip(names, parts, strict=True)}


def _candidates(
    q: int, neighbors: NeighborLists, queries: LabelPosterior, members: dict[int, NDArray[np.int32]]
) -> NDArray[np.int32]:
    """Return the index rows that are weighed for a query, its neighbours first and in their order."""
    listed = neighbors.neighbors[q][neighbors.neighbors[q] >= 0]
    likely = queries.labels[q][queries.probabilities[q] >= LEAST_LABEL].tolist()
    rows = np.concatenate([listed, *(members[label] for label in likely if label in members)])
    _, first = np.unique(rows, return_index=True)
    return np.asarray(rows[np.sort(first)], np.int32)

"""Re-ranking by k-reciprocal encoding.

Zhong, Zheng, Cao, Li: "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017, sections
3.2 to 3.5. There the queries are neighbours of each other and of the gallery. Here, as everywhere in this
project, no index image has a query among its neighbours, so a query's ranking does not depend on the other
queries: it is reciprocal to an index image when it would be among that image's nearest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from landmark_retrieval.experiments.rivals.config import KReciprocalConfig

Vectors = tuple[NDArray[np.int64], NDArray[np.float64]]
"""A sparse vector: the index rows that it names, ascending, and their values."""


def rank_by_k_reciprocal(
    queries: NDArray[np.floating[Any]],
    index: NDArray[np.floating[Any]],
    query_neighbors: NDArray[np.int32],
    index_neighbors: NDArray[np.int32],
    index_similarities: NDArray[np.float32],
    config: KReciprocalConfig,
    length: int,
) -> NDArray[np.int32]:
    """Rank the index by Jaccard distance of k-reciprocal neighbours, mixed with the original distance.

    Args:
        queries: `[q, d]` of unit length.
        index: `[n, d]` of unit length.
        query_neighbors: int32 `[q, k]` index rows, nearest first, -1 padded; k at least `k1`.
        index_neighbors: int32 `[n, k]`, likewise, without the image itself.
        index_similarities: float32 `[n, k]`.
        config: parameters.
        length: results per query.

    Returns:
        int32 `[q, length]`, best first, ties to the lower row, -1 padded.
    """
    own = np.arange(len(index))[:, None]
    lists = np.concatenate([own, index_neighbors[:, : config.k1]], axis=1)  # an image is its own nearest
    halves = [set(_reciprocal(lists, row, config.k1 // 2)) for row in range(len(index))]
    encodings = [
        _encode(_expanded(_reciprocal(lists, row, config.k1), halves), index[row], index)
        for row in range(len(index))
    ]
    averaged = _average(encodings, lists[:, : config.k2], len(index))
    # A query enters an image's list when it is nearer than the last one there.
    entry = {
        k: np.where(index_neighbors[:, k - 1] >= 0, index_similarities[:, k - 1], -np.inf)
        for k in (config.k1, config.k1 // 2)
    }
    ranking = np.full((len(queries), length), -1, np.int32)
    for query, near in enumerate(query_neighbors[:, : config.k1]):
        similarity = np.asarray(index @ np.asarray(queries[query], np.float32), np.float64)
        near = near[near >= 0]
        reciprocal = [int(row) for row in near if similarity[row] > entry[config.k1][row]]
        encoding = _encode(_expanded(reciprocal, halves), queries[query], index)
        mean = _mean_with(encoding, encodings, near[: config.k2 - 1], len(index))
        distance = _distances(similarity)
        mixed = (1 - config.weight) * _jaccard(mean, averaged) + config.weight * distance
        order = np.argsort(mixed, kind="stable")[:length]
        ranking[query, : len(order)] = order
    return ranking


def _reciprocal(lists: NDArray[np.integer[Any]], row: int, k: int) -> list[int]:
    """Return the k-reciprocal neighbours of an index image, itself among them."""
    near = lists[row, : k + 1]
    return [int(other) for other in near if other >= 0 and row in lists[other, : k + 1]]


def _expanded(reciprocal: Sequence[int], halves: Sequence[set[int]]) -> NDArray[np.int64]:
    """Add the half-size sets of its members that overlap by two thirds (equation 5)."""
    members, found = set(reciprocal), set(reciprocal)
    for row in reciprocal:
        if len(halves[row] & members) >= 2 / 3 * len(halves[row]):
            found |= halves[row]
    return np.array(sorted(found), dtype=np.int64)


def _encode(rows: NDArray[np.int64], image: NDArray[Any], index: NDArray[Any]) -> Vectors:
    """Weigh members by exp(-distance) (equation 7), to a sum of 1."""
    similarity = np.asarray(index[rows], np.float64) @ np.asarray(image, np.float64)
    weights = np.exp(-(2 - 2 * similarity))
    return rows, weights / weights.sum() if len(rows) else weights


def _matrix(vectors: Sequence[Vectors], width: int) -> csr_array[Any]:
    indptr = np.cumsum([0, *(len(rows) for rows, _ in vectors)])
    indices = np.concatenate([rows for rows, _ in vectors])
    return csr_array(
        (np.concatenate([values for _, values in vectors]), indices, indptr), shape=(len(vectors), width)
    )


def _average(encodings: Sequence[Vectors], lists: NDArray[np.integer[Any]], width: int) -> csr_array[Any]:
    """Average the encoding of every image with those of its neighbours (equation 11)."""
    plain = _matrix(encodings, width)
    there = lists >= 0
    counts = there.sum(axis=1)
    rows = np.repeat(np.arange(len(lists)), counts)
    mean = csr_array((1 / counts[rows], (rows, lists[there])), shape=(len(lists), len(lists)))
    return csr_array(mean @ plain)


def _mean_with(
    encoding: Vectors,
    encodings: Sequence[Vectors],
    near: NDArray[np.integer[Any]],
    width: int,
) -> NDArray[np.float64]:
    """Average the encoding of a query with those of its nearest index images."""
    total: NDArray[np.float64] = np.zeros(width)
    for rows, values in (encoding, *(encodings[row] for row in near)):
        total[rows] += values
    total /= 1 + len(near)
    return total


def _jaccard(encoding: NDArray[np.float64], averaged: csr_array[Any]) -> NDArray[np.float64]:
    """Return the Jaccard distance (equation 10) of one encoding to all others, whose sums are alike 1."""
    smaller = averaged.copy()
    smaller.data = np.minimum(smaller.data, encoding[smaller.indices])
    overlap = np.asarray(smaller.sum(axis=1)).ravel()
    whole = encoding.sum() + np.asarray(averaged.sum(axis=1)).ravel() - overlap
    shared: NDArray[np.float64] = np.divide(overlap, whole, out=np.zeros_like(overlap), where=whole > 0)
    return 1 - shared


def _distances(similarity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return squared distances of unit vectors, divided by the largest, as the paper's program does."""
    distance = np.maximum(2 - 2 * similarity, 0.0)
    scaled: NDArray[np.float64] = distance / max(float(distance.max(initial=0.0)), 1e-12)
    return scaled

"""Calibrated traversal: what is trusted is what geometry proves.

A path runs over verified edges alone, and is worth the product of their probabilities
(`verification.calibration`). What looks the same in two places (a plaque, a carpet, the frame of a series) is
as sure as a real match, and one such edge would lead all paths of one place into the other; so an edge
between index images must be vouched for by those around it (`vouched`).

Photos that were verified against the query come first, in the order of QE-SV; then photos that trusted paths
reach, by what the path is worth and then by similarity; then all others in the order of QE-SV. So a query for
which nothing was verified keeps its ranking. The paths are found by the loop of EGT as Prim's algorithm,
which with products of weights is Dijkstra's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from landmark_retrieval.graph.egt import EgtConfig, Traversal, explore_exploit_lists
from landmark_retrieval.graph.graph import CsrGraph
from landmark_retrieval.graph.kernel import SIMILARITY_EDGE, VERIFIED_EDGE
from landmark_retrieval.knn.neighbors import NeighborLists

BLOCK = 65536
"""Links looked at at a time; bounds memory."""


def verified_graphs(
    row_a: ArrayLike,
    row_b: ArrayLike,
    probabilities: NDArray[np.float32],
    queries: int,
    index: int,
    trust: float,
) -> tuple[CsrGraph, CsrGraph]:
    """Return the trusted edges from queries to index images, and between index images in both directions.

    Those between index images are vouched for (`vouched`).

    Args:
        row_a: `[m]` table rows: queries, then index images; row_a < row_b.
        row_b: `[m]` table rows of index images.
        probabilities: float32 `[m]` P(same place).
        queries: number of queries.
        index: number of index images.
        trust: least probability of an edge.

    Returns:
        Lists of all queries, and of all index images; each falls in probability, ties by rising row.
    """
    a, b = np.asarray(row_a, np.int64), np.asarray(row_b, np.int64)
    enough = probabilities >= trust
    a, b, p = a[enough], b[enough] - queries, probabilities[enough]
    held = a < queries
    held[~held] = vouched(a[~held] - queries, b[~held], index)
    a, b, p = a[held], b[held], p[held]
    ours = a < queries
    left, right = np.r_[a[~ours] - queries, b[~ours]], np.r_[b[~ours], a[~ours] - queries]
    return (
        _lists(a[ours], b[ours], p[ours], queries),
        _lists(left, right, np.r_[p[~ours], p[~ours]], index),
    )


def vouched(row_a: NDArray[np.int64], row_b: NDArray[np.int64], n: int) -> NDArray[np.bool_]:
    """Return which links the photos around them vouch for, bool `[m]`.

    A majority does: of the photos linked to the end with fewer links, itself among them, at least half are
    linked to the other end, too. (SCAN compares neighbourhoods like that: Xu et al., KDD 2007.) So a pair
    alone, a chain and a star hold; a link between two circles that know nothing of each other does not.

    Args:
        row_a: int64 `[m]` one end of each link, each pair of ends once.
        row_b: int64 `[m]` the other end.
        n: number of photos.
    """
    ends = np.concatenate([row_a, row_b, np.arange(n)]), np.concatenate([row_b, row_a, np.arange(n)])
    around = csr_matrix((np.ones(len(ends[0]), np.int32), ends), shape=(n, n))
    sizes, shared = np.diff(around.indptr), np.zeros(len(row_a), np.int64)
    for start in range(0, len(row_a), BLOCK):
        part = slice(start, start + BLOCK)
        common = around[row_a[part]].multiply(around[row_b[part]])
        shared[part] = np.asarray(common.sum(axis=1)).ravel()
    return np.asarray(2 * shared >= np.minimum(sizes[row_a], sizes[row_b]))


def rank_trusted(
    query_edges: CsrGraph,
    index_edges: CsrGraph,
    neighbors: NeighborLists,
    query_descriptors: NDArray[Any],
    index_descriptors: NDArray[Any],
    config: EgtConfig,
    own: NDArray[np.int64] | None = None,
) -> Traversal:
    """Rank the index for every query by what is trusted.

    Args:
        query_edges: trusted edges of all queries (`verified_graphs`).
        index_edges: trusted edges of all index images.
        neighbors: `[q, k]` the ranking of QE-SV.
        query_descriptors: `[q, d]` expanded, possibly memory-mapped.
        index_descriptors: `[n, d]` likewise.
        config: results per query, what a path is worth at least, and threads; `t` is not used.
        own: int64 `[q]` the index row that is the query itself and left out, -1 for none.

    Returns:
        The results: kind 3 (verified) with the worth of the path as score, then kind 1 (similarity) as in
        `neighbors`. The parent of a result that a path reached is the image before it on the path.
    """
    everything = config.model_copy(update={"t": float("inf")})
    reached = explore_exploit_lists(query_edges, index_edges, everything, product=True, own=own)
    shape = reached.ranking.shape
    result = Traversal(
        np.full(shape, -1, np.int32),
        np.full(shape, -np.inf, np.float32),
        np.full(shape, -1, np.int32),
        np.zeros(shape, np.int8),
    )
    for q in range(len(neighbors)):
        there = neighbors.neighbors[q] >= 0
        listed, similarities = neighbors.neighbors[q][there], neighbors.weights[q][there]
        _prefer_direct_edges(q, reached, query_edges)
        order = _order(q, reached, listed, query_descriptors, index_descriptors, config.trust)
        found = reached.ranking[q, order]
        keep = ~np.isin(listed, found)
        rest = listed[keep][: shape[1] - len(found)]
        count = len(found) + len(rest)
        result.ranking[q, :count] = np.r_[found, rest]
        result.scores[q, :count] = np.r_[reached.scores[q, order], similarities[keep][: len(rest)]]
        result.parents[q, : len(found)] = reached.parents[q, order]
        result.kinds[q, : len(found)] = VERIFIED_EDGE
        result.kinds[q, len(found) : count] = SIMILARITY_EDGE
    return result


def _prefer_direct_edges(q: int, reached: Traversal, query_edges: CsrGraph) -> None:
    """Let what was verified against the query be reached from there, even where a detour is worth more."""
    direct, probabilities = query_edges.neighbors(q)
    for row, probability in zip(direct.tolist(), probabilities.tolist(), strict=True):
        place = reached.ranking[q] == row
        reached.parents[q, place], reached.scores[q, place] = -1, probability


def _order(
    q: int,
    reached: Traversal,
    listed: NDArray[np.int32],
    query_descriptors: NDArray[Any],
    index_descriptors: NDArray[Any],
    trust: float,
) -> NDArray[np.int64]:
    """Return the places of one query's trusted results in `reached`, in the order of the ranking."""
    rows = reached.ranking[q]
    places = np.flatnonzero((rows >= 0) & (reached.scores[q] >= trust))
    if not len(places):
        return places
    found = rows[places]
    similarity = index_descriptors[found].astype(np.float32) @ query_descriptors[q].astype(np.float32)
    direct = reached.parents[q, places] < 0
    rank = np.full(len(found), len(listed))
    sorter = np.argsort(listed, kind="stable")
    if len(listed):
        at = np.minimum(np.searchsorted(listed, found, sorter=sorter), len(listed) - 1)
        there = listed[sorter[at]] == found
        rank[there] = sorter[at[there]]
    first = np.where(direct, rank, -reached.scores[q, places].astype(np.float64))
    return places[np.lexsort((found, -similarity, first, ~direct))]


def trusted_share(index_edges: CsrGraph) -> float:
    """Return the share of pairs of index images that trusted edges connect, pairs with itself among them.

    It estimates, from below, the probability that two photos of the collection show the same place.
    """
    n = len(index_edges)
    if n == 0:
        return 0.0
    matrix = csr_matrix(
        (np.ones(len(index_edges.indices), np.int8), index_edges.indices, index_edges.indptr), shape=(n, n)
    )
    _, component = connected_components(matrix, directed=False)
    return float(((np.bincount(component) / n) ** 2).sum())


def _lists(
    sources: NDArray[np.int64], targets: NDArray[np.int64], weights: NDArray[np.float32], count: int
) -> CsrGraph:
    """Return edges as lists, one a source."""
    order = np.lexsort((targets, -weights, sources))
    indptr = np.append(0, np.cumsum(np.bincount(sources, minlength=count)))
    return CsrGraph(indptr.astype(np.int64), targets[order].astype(np.int32), weights[order])

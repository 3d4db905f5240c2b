"""Which pairs of photos verification tries: the union of several lists, as deep as they still find something.

A list proposes photos in its own order: neighbours by global descriptors, by aggregated local features, or
by anything else that fills `CandidateList`. Verification decides, so a list that proposes nonsense costs time
and nothing else. How deep a list is worth going differs from photo to photo: of a building that is there
once, nothing after the first is worth a look; of one that is there a hundred times, the hundredth is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from landmark_retrieval.knn import KnnGraph, NeighborLists

logger = logging.getLogger(__name__)

START = 10
"""Leading photos of every list that are tried in any case (the paper: 10)."""

BLEND, AGGREGATED = "blend", "aggregated"
"""Names of the lists that a run makes."""

PLACE = "place_"
"""Columns of a table of pairs in which the places in lists stand begin with this."""

PATIENCE = 5
"""A list goes on while one of its last so many photos was verified; a block has at least so many."""

BLOCK = 8192
"""Lists looked through at a time; bounds memory."""


@dataclass(frozen=True)
class CandidateList:
    """One way to propose photos.

    Attributes:
        name: for reports, such as `blend`.
        queries: int32 `[q, k]` index rows proposed to each query, best first, -1 padded.
        index: int32 `[n, k]` index rows proposed to each index image; `[0, k]` leaves the database side out.
        count: leading photos that are tried in any case.
    """

    name: str
    queries: NDArray[np.int32]
    index: NDArray[np.int32]
    count: int = START

    @classmethod
    def from_graph(
        cls, name: str, graph: KnnGraph, count: int = START, database_side: bool = True
    ) -> CandidateList:
        """Return the neighbours of a graph as proposals, with or without those of the index images."""
        index = graph.index.neighbors
        return cls(name, graph.queries.neighbors, index if database_side else index[:0], count)

    def sides(self) -> Iterator[tuple[int, NDArray[np.int32]]]:
        """Yield the table row of the first image and the proposals of each side."""
        yield 0, self.queries
        yield len(self.queries), self.index


class TriedPairs:
    """What is known of pairs of table rows, to be looked up in bulk.

    Args:
        pairs: int64 `[m, 2]` table rows, each pair once, the lower one first.
        inliers: int32 `[m]`.
    """

    def __init__(self, pairs: NDArray[np.int64], inliers: NDArray[np.int32]) -> None:
        self._size = int(pairs.max(initial=0)) + 1
        keys = pairs[:, 0] * self._size + pairs[:, 1]
        order = np.argsort(keys, kind="stable")
        self._keys, self._inliers = keys[order], np.asarray(inliers, np.int32)[order]

    def inliers(self, first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return the inliers of pairs of rows in either order, any shape; -1 for what was not tried."""
        low, high = np.minimum(first, second), np.maximum(first, second)
        if len(self._keys) == 0:
            return np.full(low.shape, -1, np.int32)
        wanted = low * self._size + high
        place = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        known = (self._keys[place] == wanted) & (low >= 0) & (high < self._size)
        return np.where(known, self._inliers[place], np.int32(-1)).astype(np.int32)


def descend(
    lists: Sequence[CandidateList],
    verify: Callable[[NDArray[np.int64]], pd.DataFrame],
    min_inliers: int,
    budget: int | None,
) -> pd.DataFrame:
    """Try the leading photos of every list, then more of the lists that still find.

    Args:
        lists: what proposes photos.
        verify: tries pairs int64 `[m, 2]` and returns a table with `row_a`, `row_b`, `inliers`.
        min_inliers: inliers from which a pair is verified.
        budget: pairs that may be tried in all; None tries no more than the leading photos.

    Returns:
        What `verify` says of all pairs, ordered by rows.
    """
    table = verify(first_pairs(lists))
    first = len(table)
    while budget is not None:
        pairs = table[["row_a", "row_b"]].to_numpy(np.int64)
        new = next_pairs(lists, pairs, table["inliers"].to_numpy(np.int32), min_inliers, budget)
        if len(new) == 0:
            break
        more = verify(new)
        attributes = table.attrs
        table = pd.concat([table, more]).sort_values(["row_a", "row_b"], ignore_index=True)
        table.attrs = attributes
    if budget is not None:
        verified = int((table["inliers"] >= max(min_inliers, 1)).sum())
        logger.info(
            "candidates: %d pairs of leading photos and %d further down, of at most %d; %d are verified",
            first,
            len(table) - first,
            max(budget, first),
            verified,
        )
    return table


def first_pairs(lists: Sequence[CandidateList]) -> NDArray[np.int64]:
    """Return the pairs that are tried in any case: the leading photos of every list, each pair once.

    Returns:
        int64 `[m, 2]` table rows (query i is row i, index image j is row q + j), the lower one first,
        ascending.
    """
    found = []
    for proposals in lists:
        for first_row, neighbors in proposals.sides():
            top = neighbors[:, : proposals.count].astype(np.int64)
            sources = np.broadcast_to(np.arange(first_row, first_row + len(top))[:, None], top.shape)
            found.append(_pairs(sources[top >= 0], top[top >= 0] + len(proposals.queries)))
    return np.unique(np.concatenate([np.zeros((0, 2), np.int64), *found]), axis=0)


def next_pairs(
    lists: Sequence[CandidateList],
    pairs: NDArray[np.int64],
    inliers: NDArray[np.int32],
    min_inliers: int,
    budget: int,
) -> NDArray[np.int64]:
    """Return the pairs to try after those that were tried: one more block of each list that still finds.

    A list of a photo goes on while one of its last `PATIENCE` photos was verified, by as many as were
    verified in it so far, at least `PATIENCE`. So a pair more is tried only where about one in five is
    verified. Lists with more of these come first where the budget does not suffice for all.

    Args:
        lists: as for `first_pairs`.
        pairs: int64 `[m, 2]` tried so far, whatever proposed them.
        inliers: int32 `[m]` of these.
        min_inliers: inliers from which a pair is verified.
        budget: pairs that may be tried in all, those of `pairs` among them.

    Returns:
        int64 `[m, 2]` as from `first_pairs`, none of them in `pairs`; empty when the descent is over.
    """
    tried = TriedPairs(pairs, inliers)
    found: list[NDArray[np.int64]] = [np.zeros((0, 2), np.int64)]
    hits: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    for proposals in lists:
        queries = len(proposals.queries)
        for first_row, neighbors in proposals.sides():
            for start in range(0, len(neighbors), BLOCK):
                block = neighbors[start : start + BLOCK].astype(np.int64)
                rows = np.arange(first_row + start, first_row + start + len(block))
                columns, recent = _next_block(block, rows, queries, tried, min_inliers)
                image, column = np.nonzero(columns)
                found.append(_pairs(rows[image], block[image, column] + queries))
                hits.append(recent[image])
    wanted, urgency = np.concatenate(found), np.concatenate(hits)
    order = np.argsort(-urgency, kind="stable")
    _, first = np.unique(wanted[order], axis=0, return_index=True)
    chosen = wanted[order[np.sort(first)[: max(0, budget - len(pairs))]]]
    return chosen[np.lexsort((chosen[:, 1], chosen[:, 0]))]


def admit_verified(
    graph: KnnGraph,
    queries: NDArray[np.floating[Any]],
    index: NDArray[np.floating[Any]],
    pairs: pd.DataFrame,
    min_inliers: tuple[int, int],
) -> KnnGraph:
    """Return a k-NN graph whose lists hold every verified photo, whichever list had proposed it.

    Args:
        graph: neighbours by the descriptors.
        queries: `[q, d]` descriptors, possibly memory-mapped, as those of the index.
        index: `[n, d]` descriptors.
        pairs: `row_a`, `row_b`, `inliers` of the pairs that were tried.
        min_inliers: inliers from which a pair of a query, and of an index image, is verified.
    """
    rows, inliers = pairs[["row_a", "row_b"]].to_numpy(np.int64), pairs["inliers"].to_numpy(np.int64)
    count = len(graph.queries)

    def side(
        lists: NeighborLists, descriptors: NDArray[np.floating[Any]], first_row: int, floor: int
    ) -> NeighborLists:
        def similarity(images: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.float32]:
            return inner_products(descriptors, index, images, others)

        return admit(lists, first_row, count, rows[inliers >= max(floor, 1)], similarity)

    of_queries, of_index = min_inliers
    return KnnGraph(side(graph.queries, queries, 0, of_queries), side(graph.index, index, count, of_index))


def inner_products(
    descriptors: NDArray[np.floating[Any]],
    index: NDArray[np.floating[Any]],
    images: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Return the inner products of some descriptors `[c]` with some of the index, float32 `[c]`.

    Args:
        descriptors: `[n, d]`.
        index: `[m, d]`.
        images: int64 `[c]` rows of `descriptors`.
        rows: int64 `[c]` rows of `index`.
    """
    products = np.empty(len(images), np.float32)
    for start in range(0, len(images), BLOCK):
        part = slice(start, start + BLOCK)
        ours, theirs = descriptors[images[part]], index[rows[part]]
        products[part] = np.einsum("ij,ij->i", ours.astype(np.float64), theirs.astype(np.float64))
    return products


def admit(
    lists: NeighborLists,
    first_row: int,
    queries: int,
    verified: NDArray[np.int64],
    similarity: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float32]],
) -> NeighborLists:
    """Return nearest-neighbour lists that hold every verified photo.

    One that is missing comes in at the place of its similarity; the last photo that is not verified goes.

    Args:
        lists: `[n, k]` index rows by falling similarity.
        first_row: table row of the first image.
        queries: number of queries (index image j is table row queries + j).
        verified: int64 `[m, 2]` table rows of verified pairs, each once.
        similarity: gives the similarities of images (positions in `lists`) and index rows, both int64 `[c]`.

    Returns:
        Lists of the same form; those without a missing photo are unchanged.
    """
    both = np.concatenate([verified, verified[:, ::-1]])
    image, target = both[:, 0] - first_row, both[:, 1] - queries
    mine = (image >= 0) & (image < len(lists)) & (target >= 0)
    image, target = image[mine], target[mine]
    there = np.zeros(len(image), np.bool_)
    for start in range(0, len(image), BLOCK):
        part = slice(start, start + BLOCK)
        there[part] = (lists.neighbors[image[part]] == target[part, None]).any(axis=1)
    new = np.flatnonzero(~there)
    new = new[np.argsort(image[new], kind="stable")]
    values = similarity(image[new], target[new])
    neighbors, weights = lists.neighbors.copy(), lists.weights.copy()
    known = _by_image(image, target)
    rows, starts, counts = np.unique(image[new], return_index=True, return_counts=True)
    for row, start, count in zip(rows.tolist(), starts.tolist(), counts.tolist(), strict=True):
        group = slice(start, start + count)
        neighbors[row], weights[row] = _insert(
            lists.neighbors[row], lists.weights[row], target[new[group]], values[group], known(row)
        )
    return NeighborLists(neighbors, weights)


def places_of(lists: Sequence[CandidateList], pairs: NDArray[np.int64]) -> dict[str, NDArray[np.int16]]:
    """Return for each list at which place, from 1, it proposes one photo of a pair to the other.

    Args:
        lists: as for `first_pairs`.
        pairs: int64 `[m, 2]` table rows.

    Returns:
        For the name of each list int16 `[m]`: the better place of both photos; 0 where neither has the other.
    """
    result = {}
    for proposals in lists:
        best = np.full(len(pairs), np.iinfo(np.int16).max, np.int16)
        for first_row, neighbors in proposals.sides():
            for image, other in ((pairs[:, 0], pairs[:, 1]), (pairs[:, 1], pairs[:, 0])):
                mine = np.flatnonzero((image >= first_row) & (image < first_row + len(neighbors)))
                for start in range(0, len(mine), BLOCK):
                    at = mine[start : start + BLOCK]
                    target = other[at] - len(proposals.queries)
                    same = (neighbors[image[at] - first_row] == target[:, None]) & (target >= 0)[:, None]
                    place = np.where(same.any(axis=1), same.argmax(axis=1) + 1, best[at])
                    best[at] = np.minimum(best[at], place)
        result[proposals.name] = np.where(best == np.iinfo(np.int16).max, 0, best).astype(np.int16)
    return result


def _pairs(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return pairs of rows int64 `[m, 2]`, the lower one first, without pairs of an image with itself."""
    other = first != second
    low, high = np.minimum(first, second)[other], np.maximum(first, second)[other]
    return np.stack([low, high], axis=1).astype(np.int64)


def _next_block(
    block: NDArray[np.int64], rows: NDArray[np.int64], queries: int, tried: TriedPairs, min_inliers: int
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return which columns of each list come next, bool `[b, k]`, and how many of its last were verified."""
    targets = block + queries
    nobody = (block < 0) | (targets == rows[:, None])
    inliers = tried.inliers(np.where(nobody, -1, rows[:, None]), np.where(nobody, -1, targets))
    done, verified = nobody | (inliers >= 0), inliers >= max(min_inliers, 1)
    places = np.arange(block.shape[1])
    depth = np.where(done.all(axis=1), block.shape[1], done.argmin(axis=1))[:, None]
    recent = (verified & (places < depth) & (places >= depth - PATIENCE)).sum(axis=1)
    so_far = (verified & (places < depth)).sum(axis=1, keepdims=True)
    wanted = (places >= depth) & (places < depth + np.maximum(so_far, PATIENCE)) & (recent > 0)[:, None]
    return wanted & ~done, recent


def _by_image(image: NDArray[np.int64], target: NDArray[np.int64]) -> Callable[[int], NDArray[np.int64]]:
    """Return a function that gives the targets of an image."""
    order = np.argsort(image, kind="stable")
    sources: NDArray[np.int64] = image[order]
    targets: NDArray[np.int64] = target[order]

    def of(row: int) -> NDArray[np.int64]:
        start, stop = np.searchsorted(sources, [row, row + 1]).tolist()
        return targets[start:stop]

    return of


def _insert(
    neighbors: NDArray[np.int32],
    weights: NDArray[np.float32],
    new: NDArray[np.int64],
    values: NDArray[np.float32],
    verified: NDArray[np.int64],
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Return one list with new photos in it, by falling weight; unverified ones with low weights leave it."""
    there = neighbors >= 0
    photos = np.concatenate([neighbors[there], new.astype(np.int32)])
    similarities = np.concatenate([weights[there], values])
    first_to_stay = np.lexsort((-similarities, ~np.isin(photos, verified)))
    kept = first_to_stay[: len(neighbors)]
    kept = kept[np.lexsort((photos[kept], -similarities[kept]))]
    row, row_weights = np.full_like(neighbors, -1), np.full_like(weights, -np.inf)
    row[: len(kept)], row_weights[: len(kept)] = photos[kept], similarities[kept]
    return row, row_weights

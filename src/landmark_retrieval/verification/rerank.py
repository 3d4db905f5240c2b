"""Re-ranking of the nearest neighbours by what spatial verification found."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from landmark_retrieval.knn import NeighborLists


def neighbor_inliers(
    neighbors: NDArray[np.int32], first_row: int, queries: int, verified: pd.DataFrame, candidates: int | None
) -> NDArray[np.int32]:
    """Look up the inliers of each image and its leading neighbours.

    Args:
        neighbors: `[n, k]` index rows, -1 padded.
        first_row: table row of the first image: 0 for queries, the number of queries for index images.
        queries: number of queries (index image j is table row queries + j).
        verified: `row_a`, `row_b`, `inliers` of all pairs that were tried (`verify_pairs`).
        candidates: leading columns to look up; None for all.

    Returns:
        int32 `[n, min(candidates, k)]` inliers, 0 where a pair was not tried, -1 for padding and for an
        image among its own neighbours.
    """
    top = neighbors[:, :candidates].astype(np.int64)
    source = np.broadcast_to(np.arange(first_row, first_row + len(top))[:, None], top.shape)
    target = top + queries
    low, high = np.minimum(source, target), np.maximum(source, target)
    row_a, row_b = verified["row_a"].to_numpy(np.int64), verified["row_b"].to_numpy(np.int64)
    size = int(max(high.max(initial=0), row_b.max(initial=0))) + 1
    keys = row_a * size + row_b
    order = np.argsort(keys, kind="stable")
    keys, counts = keys[order], verified["inliers"].to_numpy(np.int32)[order]
    wanted = low * size + high
    place = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
    if len(keys):
        inliers = np.where(keys[place] == wanted, counts[place], 0).astype(np.int32)
    else:
        inliers = np.zeros(top.shape, np.int32)
    inliers[(top < 0) | (source == target)] = -1
    return inliers


def rerank_order(inliers: NDArray[np.int32], min_inliers: int) -> NDArray[np.int64]:
    """Return the order by inliers, then by the order at hand (similarity).

    Counts below the floor are chance and do not reorder anything; padding stays last.

    Args:
        inliers: int32 `[n, c]` of neighbours in descending similarity; negative for what is no neighbour.
        min_inliers: floor.

    Returns:
        int64 `[n, c]` column numbers, each row a permutation.
    """
    reliable = np.where(inliers >= max(min_inliers, 1), inliers, np.minimum(inliers, 0))
    return np.argsort(-reliable, axis=1, kind="stable")


def rerank(lists: NeighborLists, inliers: NDArray[np.int32], min_inliers: int) -> NeighborLists:
    """Return the lists with their leading neighbours re-ranked by inliers, then by similarity.

    Args:
        lists: `[n, k]` in descending similarity, -1 padded.
        inliers: int32 `[n, c]` of the leading c <= k columns (`neighbor_inliers`).
        min_inliers: floor below which inliers count as none.

    Returns:
        The lists `[n, k]`, the neighbours of each a permutation of the given ones. A list keeps its falling
        similarities; who stands at each of them changes.
    """
    order, leading = rerank_order(inliers, min_inliers), slice(inliers.shape[1])
    result = lists.neighbors.copy()
    result[:, leading] = np.take_along_axis(lists.neighbors[:, leading], order, axis=1)
    return NeighborLists(result, lists.weights)

"""Re-ranking against slow loops."""

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from landmark_retrieval.knn import NeighborLists
from landmark_retrieval.verification import neighbor_inliers, rerank


def reranked(neighbors, inliers, floor):
    """Return the re-ranked neighbours, after checking that their falling similarities stay where they are."""
    weights = -np.arange(neighbors.size, dtype=np.float32).reshape(neighbors.shape)
    result = rerank(NeighborLists(neighbors, weights), inliers, floor)
    assert result.weights is weights
    return result.neighbors


def table(entries):
    rows = [(a, b, n) for (a, b), n in entries.items()]
    return pd.DataFrame(rows, columns=["row_a", "row_b", "inliers"]).astype("int64")


def case(seed, queries=3, index=6, k=5):
    random = np.random.default_rng(seed)
    total = queries + index
    entries = {
        (a, b): int(random.integers(0, 20))
        for a in range(total)
        for b in range(a + 1, total)
        if random.random() < 0.6
    }
    neighbors = np.stack([random.permutation(index)[:k] for _ in range(index)]).astype(np.int32)
    neighbors[random.random(neighbors.shape) < 0.1] = -1
    return neighbors, entries


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 7), st.integers(0, 15))
def test_equals_slow_loops(seed, candidates, floor):
    queries = 3
    neighbors, entries = case(seed, queries)
    for first in (0, queries):
        source = neighbors[:queries] if first == 0 else neighbors
        inliers = neighbor_inliers(source, first, queries, table(entries), candidates)
        ranked = reranked(source, inliers, floor)
        for i, row in enumerate(source.tolist()):
            head = row[:candidates]
            pairs = [tuple(sorted((first + i, queries + j))) for j in head]
            counts = [
                -1 if j < 0 or first + i == queries + j else entries.get(pair, 0)
                for j, pair in zip(head, pairs, strict=True)
            ]
            assert inliers[i].tolist() == counts
            keys = [n if n >= max(floor, 1) else min(n, 0) for n in counts]
            order = sorted(range(len(head)), key=lambda c: (-keys[c], c))
            assert ranked[i].tolist() == [head[c] for c in order] + row[candidates:]


def test_counts_below_the_floor_reorder_nothing():
    neighbors = np.array([[4, 2, 7, 1, 3]], np.int32)
    inliers = np.array([[0, 9, 30, 10]], np.int32)
    assert reranked(neighbors, inliers, 10).tolist() == [[7, 1, 4, 2, 3]]
    assert reranked(neighbors, inliers, 31).tolist() == neighbors.tolist()
    assert neighbors.tolist() == [[4, 2, 7, 1, 3]]


def test_equal_inliers_keep_the_order_of_similarity():
    assert reranked(np.array([[4, 2, 7]], np.int32), np.array([[12, 15, 12]], np.int32), 10).tolist() == [
        [2, 4, 7]
    ]


def test_nothing_verified():
    neighbors = np.array([[1, 0, -1]], np.int32)
    inliers = neighbor_inliers(neighbors, 0, 1, table({}), 10)
    assert inliers.tolist() == [[0, 0, -1]]
    assert reranked(neighbors, inliers, 10).tolist() == neighbors.tolist()
    assert neighbor_inliers(neighbors[:0], 0, 1, table({}), 10).shape == (0, 3)

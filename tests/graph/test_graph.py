from __future__ import annotations

import graph_reference as reference
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import from_csr, lists_of, to_csr, to_table

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.graph import symmetrize
from landmark_retrieval.graph.graph import symmetrize_lists
from landmark_retrieval.knn import NeighborLists

LISTS = st.integers(0, 12).flatmap(lambda n: lists_of(n, n, 6))


@settings(max_examples=300, deadline=None)
@given(LISTS, st.sampled_from([np.float32, np.float64]))
def test_equals_reference(lists: list, dtype: type) -> None:
    expected = reference.symmetrize(lists)
    assert from_csr(symmetrize_lists(to_csr(expected, dtype), threads=1)) == expected
    result = symmetrize_lists(to_csr(lists, dtype), threads=1)
    if [sorted(near) for near in lists] == [sorted(near) for near in expected]:
        assert [sorted(near) for near in from_csr(result)] == [sorted(near) for near in expected]
    else:
        assert from_csr(result) == expected
    assert (result.indptr.dtype, result.indices.dtype, result.weights.dtype) == (np.int64, np.int32, dtype)


@settings(max_examples=100, deadline=None)
@given(LISTS)
def test_table_equals_reference(lists: list) -> None:
    assert from_csr(symmetrize(NeighborLists(*to_table(lists, 6)), threads=1)) == reference.symmetrize(lists)


def test_threads_do_not_change_the_result() -> None:
    random = np.random.default_rng(0)
    neighbors = random.integers(-1, 40_000, (40_000, 6)).astype(np.int32)
    weights = random.integers(-20, 20, neighbors.shape).astype(np.float32)
    one, many = (symmetrize(NeighborLists(neighbors, weights), threads) for threads in (1, 4))
    for field in ("indptr", "indices", "weights"):
        np.testing.assert_array_equal(getattr(one, field), getattr(many, field))
    sample = reference.symmetrize(
        [list(zip(n, w, strict=True)) for n, w in zip(neighbors.tolist(), weights.tolist(), strict=True)]
    )
    assert from_csr(one) == sample


def test_symmetric_lists_keep_the_order_of_their_ties() -> None:
    lists = [[(2, 1.0), (1, 1.0)], [(0, 1.0)], [(0, 1.0)]]
    graph = to_csr(lists)
    assert symmetrize_lists(graph) is graph
    looped = to_csr([[(0, 1.0)], [(0, 1.0)]])
    assert from_csr(symmetrize_lists(looped)) == [[(1, 1.0)], [(0, 1.0)]]
    assert from_csr(symmetrize(NeighborLists(*to_table(lists, 2))))[0] == [(1, 1.0), (2, 1.0)]


def test_larger_weight_counts_whichever_direction_has_it() -> None:
    graph = symmetrize(
        NeighborLists(
            np.array([[1, -1], [0, 2], [1, -1]], np.int32), np.array([[3, 0], [5, 1], [4, 9]], np.float32)
        )
    )
    assert from_csr(graph) == [[(1, 5.0)], [(0, 5.0), (2, 4.0)], [(1, 4.0)]]


@pytest.mark.parametrize(
    ("neighbors", "weights", "message"),
    [
        ([[1, 0], [0, 1]], [[1.0], [1.0]], "both must be"),
        ([[2], [0]], [[1.0], [1.0]], "neighbour 2 is outside the index of 2 images"),
        ([[1], [0]], [[1.0], [np.nan]], "row 1 has a weight that is not a number"),
    ],
)
def test_wrong_tables_are_refused(neighbors: list, weights: list, message: str) -> None:
    with pytest.raises(LandmarkRetrievalError, match=message):
        symmetrize(NeighborLists(np.array(neighbors, np.int32), np.array(weights, np.float32)))

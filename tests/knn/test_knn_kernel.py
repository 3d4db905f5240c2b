"""The compiled selection must be exact whatever rounding, within its bound, the products carry."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from knn_reference import assert_same, nearest, problems

from landmark_retrieval.knn import NeighborLists
from landmark_retrieval.knn.kernel import (
    CHUNK,
    gather_from_products,
    gathered_width,
    inner_product,
    offer_gathered,
    row_norms,
    score_candidates,
    select_from_candidates,
    sort_heaps,
)

SLACK = 0.3
noises = st.tuples(st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.99 * SLACK]))


def heaps(q, k):
    return np.full((q, k), -np.inf, np.float32), np.full((q, k), -1, np.int32)


def as_sorted(scores, rows):
    sort_heaps(scores, rows, 0, len(scores))
    return NeighborLists(rows, scores)


def noted(q, k):
    """Return the empty lists of what was gathered."""
    shape = q, gathered_width(k)
    lists = np.empty(shape, np.int32), np.empty(shape, np.float32)
    return *lists, np.zeros(q, np.int32), np.full(q, -np.inf, np.float32)


def select(tiles, queries, slack, excluded, block, rows, scores, found, start=0, stop=None):
    """Gather from the tiles of a block, whose products are given, and score what was gathered."""
    stop, lists, first = len(queries) if stop is None else stop, noted(len(queries), scores.shape[1]), 0
    for products in tiles:
        gather_from_products(
            products, first, queries, slack, excluded, block, rows, scores, found, *lists, start, stop
        )
        first += products.shape[1]
    offer_gathered(queries, slack, block, rows, scores, found, *lists, start, stop)
    assert (lists[2][start:stop] == 0).all() and np.isneginf(lists[3][start:stop]).all()


def prepared(problem, noise):
    """Return a problem as the kernels take it: noisy products and slack, without zero rows."""
    queries, database, k, exclude = problem
    rows = np.flatnonzero(database.any(axis=1)).astype(np.int32)
    block = np.ascontiguousarray(database[rows])
    random = np.random.default_rng(noise[0])
    products = queries @ block.T
    products += random.choice([-noise[1], 0, noise[1]], products.shape).astype(np.float32)
    slack = np.where(queries.any(axis=1), SLACK, -1).astype(np.float32)
    excluded = np.full(len(queries), -1) if exclude is None else exclude
    return queries, block, rows, products, slack, excluded, k


@settings(max_examples=150, deadline=None)
@given(problems(), noises, st.integers(1, 130), st.integers(1, 130))
def test_noisy_products_in_blocks_and_tiles_give_exact_neighbours(problem, noise, width, tile):
    queries, block, rows, products, slack, excluded, k = prepared(problem, noise)
    scores, found = heaps(len(queries), k)
    for start in range(0, len(block), width):
        part = slice(start, min(start + width, len(block)))
        tiles = [
            np.ascontiguousarray(products[:, left : min(left + tile, part.stop)])
            for left in range(start, part.stop, tile)
        ]
        select(tiles, queries, slack, excluded, block[part], rows[part], scores, found)
    assert_same(as_sorted(scores, found), nearest(problem[0], problem[1], k, problem[3]))


@settings(max_examples=150, deadline=None)
@given(problems(), noises, st.integers(1, 130))
def test_candidates_are_exact_or_said_to_be_incomplete(problem, noise, width):
    queries, block, rows, products, slack, excluded, k = prepared(problem, noise)
    if not len(block):
        return
    width = min(width, len(block))
    candidates = np.argsort(-products, axis=1)[:, :width]
    # libraries pad with -1 when they find less
    candidates = np.hstack([candidates, np.full((len(queries), 2), -1)])
    similarities = np.take_along_axis(products, candidates, axis=1)
    scores, found = heaps(len(queries), k)
    complete = np.empty(len(queries), bool)
    select_from_candidates(
        candidates, similarities, queries, slack, excluded, block, rows, scores, found, complete,
        np.empty(width + 2, np.int32), np.empty(width + 2, np.float32), 0, len(queries),
    )  # fmt: skip
    assert np.isneginf(scores[~complete]).all() and (found[~complete] == -1).all()
    if width == len(block):
        assert complete.all()
    expected = nearest(problem[0], problem[1], k, problem[3])
    result = as_sorted(scores, found)
    assert_same(
        NeighborLists(result.neighbors[complete], result.weights[complete]),
        NeighborLists(expected.neighbors[complete], expected.weights[complete]),
    )


def test_clear_candidates_are_complete_and_equal_ones_are_not():
    block = np.arange(100, 0, -1, dtype=np.float32)[:, None]
    for values, enough in ((block, True), (np.ones_like(block), False)):
        scores, found = heaps(1, 5)
        complete = np.empty(1, bool)
        candidates = np.arange(10)[None]
        select_from_candidates(
            candidates, np.ascontiguousarray(values[:10].T), np.ones((1, 1), np.float32),
            np.full(1, SLACK, np.float32), np.full(1, -1), values, np.arange(100, dtype=np.int32),
            scores, found, complete, np.empty(10, np.int32), np.empty(10, np.float32), 0, 1,
        )  # fmt: skip
        assert complete[0] == enough


@settings(max_examples=100, deadline=None)
@given(problems())
def test_scored_candidates_are_the_best_of_the_candidates(problem):
    queries, database, k, _ = problem
    random = np.random.default_rng(len(database))
    chosen = random.permutation(len(database))[: len(database) // 2 + 1]
    candidates = np.full((len(queries), len(database)), -1, np.int32)
    candidates[:, random.permutation(len(database))[: len(chosen)]] = chosen
    scores, found = heaps(len(queries), k)
    rows = np.arange(len(database), dtype=np.int32)
    score_candidates(candidates, queries, database, rows, scores, found, 0, len(queries))
    exact = (queries.astype(float) @ database.T.astype(float)).astype(np.float32)
    for i, result in enumerate(as_sorted(scores, found).neighbors):
        expected = sorted(chosen, key=lambda j, i=i: (-exact[i, j], j))[:k]
        assert result[: len(expected)].tolist() == expected
        assert (result[len(expected) :] == -1).all()


@pytest.mark.parametrize("count", [CHUNK - 1, CHUNK, CHUNK + 1, 7 * CHUNK])
def test_rows_in_ascending_similarity_cut_again_and_again(count):
    block = np.arange(1, count + 1, dtype=np.float32)[:, None]
    query = np.ones((1, 1), np.float32)
    scores, found = heaps(1, 3)
    rows = np.arange(count, dtype=np.int32)
    products = np.ascontiguousarray(block.T)
    select([products], query, np.zeros(1, np.float32), np.array([count - 1]), block, rows, scores, found)
    assert as_sorted(scores, found).neighbors.tolist() == [[count - 2, count - 3, count - 4]]


def test_more_equal_rows_than_are_noted_are_scored_at_once():
    """A thousand equal rows and one better one at the end: the lowest rows, and the better one first."""
    block = np.ones((1000, 1), np.float32)
    block[-1] = 2
    scores, found = heaps(1, 3)
    rows = np.arange(1000, dtype=np.int32)
    products = np.ascontiguousarray(block.T)
    select(
        [products[:, :600].copy(), products[:, 600:].copy()], np.ones((1, 1), np.float32),
        np.full(1, SLACK, np.float32), np.full(1, -1), block, rows, scores, found,
    )  # fmt: skip
    assert as_sorted(scores, found).neighbors.tolist() == [[999, 0, 1]]


def test_only_the_queries_asked_for_change():
    scores, found = heaps(4, 2)
    block = np.eye(3, dtype=np.float32)
    queries = np.ones((4, 3), np.float32)
    slack, nothing, rows = np.zeros(4, np.float32), np.full(4, -1), np.arange(3, dtype=np.int32)
    select([queries], queries, slack, nothing, block, rows, scores, found, 1, 3)
    assert np.isneginf(scores[[0, 3]]).all() and (scores[1:3] == 1).all()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=0, max_size=40), st.integers(1, 20))
def test_heaps_sort_by_falling_score_then_row(values, k):
    database = np.array(values, np.float32)[:, None]
    scores, found = heaps(1, k)
    score_candidates(
        np.arange(len(values), dtype=np.int32)[None, ::-1].copy(), np.ones((1, 1), np.float32),
        database, np.arange(len(values), dtype=np.int32), scores, found, 0, 1,
    )  # fmt: skip
    pairs = sorted((-v, j) for j, v in enumerate(values))[:k]
    padding = k - len(pairs)
    result = as_sorted(scores, found)
    assert result.neighbors[0].tolist() == [j for _, j in pairs] + [-1] * padding
    assert result.weights[0].tolist() == [-v for v, _ in pairs] + [-np.inf] * padding


def test_norms():
    random = np.random.default_rng(0)
    matrix = random.normal(size=(9, 50)).astype(np.float32)
    matrix[2], matrix[3, 4], matrix[4, 0], matrix[5] = 0, np.nan, np.inf, 1e-40
    norms = np.full(9, 7, np.float32)
    row_norms(matrix, norms, 1, 8)
    assert norms[0] == norms[8] == 7
    np.testing.assert_allclose(
        norms[[1, 6, 7]], np.linalg.norm(matrix[[1, 6, 7]].astype(float), axis=1), 1e-6
    )
    assert norms[2] == 0 and np.isnan(norms[3]) and np.isinf(norms[4]) and norms[5] > 0


def test_inner_product_is_summed_in_double_precision():
    a = np.array([1e8, 1, -1e8], np.float32)
    b = np.ones(3, np.float32)
    assert inner_product(a, b) == 1

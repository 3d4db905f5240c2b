"""Unions of candidate lists against loops over photos and places."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from landmark_retrieval.knn import KnnGraph, NeighborLists
from landmark_retrieval.verification.candidates import (
    PATIENCE,
    START,
    CandidateList,
    TriedPairs,
    admit,
    admit_verified,
    descend,
    first_pairs,
    next_pairs,
    places_of,
)

FLOOR = 12


def random_lists(random: np.random.Generator, queries: int, index: int, k: int) -> list[CandidateList]:
    lists = []
    for name, count in (("blend", 3), ("aggregated", 2)):
        of_queries = np.array([random.permutation(index)[:k] for _ in range(queries)], np.int32)
        of_index = np.full((index, k), -1, np.int32)
        for row in range(index):
            others = np.delete(random.permutation(index), 0)
            others = others[others != row][:k]
            of_index[row, : len(others)] = others
        lists.append(CandidateList(name, of_queries.reshape(queries, k), of_index, count))
    return lists


def slow_places(lists: list[CandidateList]) -> list[tuple[int, list[int]]]:
    """Every list of every photo: its table row, and the table rows that are proposed to it."""
    found = []
    for proposals in lists:
        queries = len(proposals.queries)
        for row, line in enumerate([*proposals.queries, *proposals.index]):
            found.append((row, [queries + int(other) for other in line if other >= 0]))
    return found


def slow_next(
    lists: list[CandidateList], tried: dict[tuple[int, int], int], budget: int
) -> list[tuple[int, int]]:
    wanted: list[tuple[int, tuple[int, int]]] = []
    for row, others in slow_places(lists):
        pairs = [(min(row, other), max(row, other)) for other in others]
        depth = 0
        while depth < len(pairs) and (pairs[depth] in tried or pairs[depth][0] == pairs[depth][1]):
            depth += 1
        recent = sum(tried.get(pair, 0) >= FLOOR for pair in pairs[max(0, depth - PATIENCE) : depth])
        so_far = sum(tried.get(pair, 0) >= FLOOR for pair in pairs[:depth])
        if recent:
            block = pairs[depth : depth + max(PATIENCE, so_far)]
            wanted += [(recent, pair) for pair in block if pair not in tried and pair[0] != pair[1]]
    wanted.sort(key=lambda item: -item[0])
    chosen = list(dict.fromkeys(pair for _, pair in wanted))
    return sorted(chosen[: max(0, budget - len(tried))])


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    queries=st.integers(0, 4),
    index=st.integers(2, 25),
    k=st.integers(1, 20),
    share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    budget=st.sampled_from([0, 60, 10_000]),
)
def test_the_descent_equals_a_loop_over_lists(
    seed: int, queries: int, index: int, k: int, share: float, budget: int
) -> None:
    random = np.random.default_rng(seed)
    lists = random_lists(random, queries, index, min(k, index))
    expected = sorted(
        {
            (min(row, other), max(row, other))
            for proposals in lists
            for row, others in slow_places([proposals])
            for other in others[: proposals.count]
            if row != other
        }
    )
    pairs = first_pairs(lists)
    assert list(map(tuple, pairs.tolist())) == expected
    tried = {pair: int(random.choice([5, 40], p=[1 - share, share])) for pair in expected}
    for _ in range(50):
        known = np.array(sorted(tried), np.int64).reshape(-1, 2)
        inliers = np.array([tried[pair] for pair in sorted(tried)], np.int32)
        new = [tuple(pair) for pair in next_pairs(lists, known, inliers, FLOOR, budget).tolist()]
        assert new == slow_next(lists, tried, budget)
        if not new:
            return
        tried.update({pair: int(random.choice([5, 40], p=[1 - share, share])) for pair in new})
    raise AssertionError("the descent does not end")


def everything(images: int) -> NDArray[np.int32]:
    return np.arange(images, dtype=np.int32)[None]


def test_a_list_that_finds_goes_on_and_one_that_does_not_stops() -> None:
    """Forty photos of one place, then strangers: it looks no further than a few beyond the last one."""
    proposals = [CandidateList("blend", everything(100), np.zeros((0, 100), np.int32))]
    pairs = first_pairs(proposals)
    assert len(pairs) == START
    for _ in range(20):
        inliers = np.where(pairs[:, 1] - 1 < 40, 50, 0).astype(np.int32)
        new = next_pairs(proposals, pairs, inliers, FLOOR, 1000)
        if not len(new):
            break
        pairs = np.concatenate([pairs, new])
    # Blocks double while all of them are verified: 10, 20, 40, 80.
    assert len(pairs) == 80
    alone = first_pairs(proposals)
    only_first = np.where(alone[:, 1] == 1, 50, 0).astype(np.int32)
    assert len(next_pairs(proposals, alone, only_first, FLOOR, 1000)) == 0


def test_the_budget_goes_to_the_lists_that_find_most() -> None:
    lists = np.tile(everything(60), (2, 1))
    proposals = [CandidateList("blend", lists, np.zeros((0, 60), np.int32))]
    pairs = first_pairs(proposals)
    inliers = np.zeros(len(pairs), np.int32)
    inliers[(pairs[:, 0] == 0) & (pairs[:, 1] == 11)] = 50
    inliers[pairs[:, 0] == 1] = 50
    new = next_pairs(proposals, pairs, inliers, FLOOR, len(pairs) + 4)
    assert new.tolist() == [[1, 12 + place] for place in range(4)]
    assert len(next_pairs(proposals, pairs, inliers, FLOOR, len(pairs) - 1)) == 0


def test_lookup_in_either_order_and_beyond_what_is_known() -> None:
    tried = TriedPairs(np.array([[0, 5], [2, 3]]), np.array([7, 0], np.int32))
    first, second = np.array([5, 2, 3, 0, 90, -1]), np.array([0, 3, 2, 2, 91, -1])
    assert tried.inliers(first, second).tolist() == [7, 0, 0, -1, -1, -1]
    nothing = TriedPairs(np.zeros((0, 2), np.int64), np.zeros(0, np.int32))
    assert nothing.inliers(first, second).tolist() == [-1] * 6


def test_at_which_place_a_list_proposes_a_pair() -> None:
    random = np.random.default_rng(0)
    lists = random_lists(random, queries=3, index=9, k=4)
    pairs = np.array([(a, b) for a in range(12) for b in range(a + 1, 12)])
    found = places_of(lists, pairs)
    for proposals in lists:
        places = dict(slow_places([proposals]))
        for (a, b), place in zip(pairs.tolist(), found[proposals.name].tolist(), strict=True):
            either = [places[one].index(other) + 1 for one, other in ((a, b), (b, a)) if other in places[one]]
            assert place == min(either, default=0)


def test_verified_photos_come_into_lists_that_lack_them() -> None:
    neighbors = np.array([[4, 2, 7], [0, 1, -1]], np.int32)
    weights = np.array([[0.9, 0.6, 0.5], [0.8, 0.3, -np.inf]], np.float32)
    similar = {(0, 5): 0.4, (0, 7): 0.5, (1, 6): 0.55, (1, 3): 0.1}

    def similarity(image: NDArray[np.int64], row: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.array([similar[int(i), int(r)] for i, r in zip(image, row, strict=True)], np.float32)

    queries = 2
    verified = np.array([[0, 9], [0, 7], [1, 8], [1, 5], [3, 4]])  # index rows 7, 5, 6, 3; and another side
    found = admit(NeighborLists(neighbors, weights), 0, queries, verified, similarity)
    # 7 is verified and stays; 2 is not and leaves, although its similarity is larger.
    assert found.neighbors.tolist() == [[4, 7, 5], [0, 6, 3]]
    np.testing.assert_allclose(found.weights, [[0.9, 0.5, 0.4], [0.8, 0.55, 0.1]])


def test_lists_that_lack_nobody_stay_as_they_are() -> None:
    neighbors = np.array([[1, 2], [0, 2], [1, 0]], np.int32)
    weights = np.array([[0.5, 0.4], [0.5, 0.1], [0.4, 0.1]], np.float32)
    verified = np.array([[3, 4], [4, 5]])  # index images 0-1 and 1-2, after three queries

    def similarity(image: NDArray[np.int64], row: NDArray[np.int64]) -> NDArray[np.float32]:
        assert len(image) == 0
        return np.zeros(0, np.float32)

    found = admit(NeighborLists(neighbors, weights), 3, 3, verified, similarity)
    np.testing.assert_array_equal(found.neighbors, neighbors)
    np.testing.assert_array_equal(found.weights, weights)


def test_a_graph_holds_what_another_list_had_found() -> None:
    random = np.random.default_rng(3)
    queries, index = random.normal(size=(2, 4)), random.normal(size=(6, 4))
    similarities, among = queries @ index.T, index @ index.T - 100 * np.eye(6)
    order, own = np.argsort(-similarities, axis=1), np.argsort(-among, axis=1)

    def best(order: NDArray[np.int64], values: NDArray[np.float64]) -> NeighborLists:
        return NeighborLists(
            order[:, :3].astype(np.int32), np.take_along_axis(values, order[:, :3], 1).astype(np.float32)
        )

    graph = KnnGraph(best(order, similarities), best(own, among))
    last, far = int(order[0, 5]), int(own[4, 4])
    pairs = pd.DataFrame(
        {"row_a": [0, 1, min(6, far + 2)], "row_b": [2 + last, 2, max(6, far + 2)], "inliers": [30, 5, 12]}
    )
    found = admit_verified(graph, queries, index, pairs, (FLOOR, FLOOR))
    assert found.queries.neighbors.tolist() == [[*order[0, :2], last], order[1, :3].tolist()]
    assert found.queries.weights[0, 2] == np.float32(similarities[0, last])
    assert found.index.neighbors[4].tolist() == [*own[4, :2], far]
    assert 4 in found.index.neighbors[far]  # the pair counts for both


def test_the_whole_descent_keeps_what_a_table_is_made_of() -> None:
    proposals = [CandidateList("blend", everything(100), np.zeros((0, 100), np.int32))]
    asked: list[int] = []

    def verify(pairs: NDArray[np.int64]) -> pd.DataFrame:
        asked.append(len(pairs))
        table = pd.DataFrame({"row_a": pairs[:, 0], "row_b": pairs[:, 1], "inliers": 50 * (pairs[:, 1] < 31)})
        table.attrs = {"version": 1}
        return table

    table = descend(proposals, verify, FLOOR, 1000)
    assert asked == [10, 10, 20]  # of the last twenty the first ten are verified, of its last five none
    assert table["row_b"].tolist() == list(range(1, 41))
    assert table.attrs == {"version": 1}
    assert len(descend(proposals, verify, FLOOR, None)) == START
    assert len(descend(proposals, verify, FLOOR, 25)) == 25

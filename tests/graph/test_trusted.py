"""Trusted paths against every path walked in turn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landmark_retrieval.graph.egt import EgtConfig, trusted_path
from landmark_retrieval.graph.trusted import rank_trusted, trusted_share, verified_graphs, vouched
from landmark_retrieval.knn import NeighborLists

CONFIG = EgtConfig(p=12, threads=1)


def worths(queries, n, pairs, trust):
    """Return the best product over all simple paths of trusted edges, by query and index row (slow)."""
    edges = {}
    for a, b, p in pairs:
        if p >= trust:
            edges[a, b] = p
            if a >= queries:
                edges[b, a] = p
    edges = held(edges, queries)
    best = np.zeros((queries, n))

    def walk(query, at, worth, seen):
        for (a, b), p in edges.items():
            if a == at and b not in seen:
                best[query, b - queries] = max(best[query, b - queries], worth * p)
                walk(query, b, worth * p, seen | {b})

    for query in range(queries):
        walk(query, query, 1.0, {query})
    return best


def held(edges, queries):
    """Return the edges but those between index images that no majority vouches for, in its words."""
    around = {}
    for a, b in edges:
        if a >= queries:
            around.setdefault(a, {a}).add(b)

    def vouch(a, b):
        fewer, other = sorted((around[a], around[b]), key=len)
        return 2 * len(fewer & other) >= len(fewer)

    return {(a, b): p for (a, b), p in edges.items() if a < queries or vouch(a, b)}


def reference(queries, n, pairs, ranking, similarity, trust):
    """Return the ranking of each query in the words of the module."""
    best = worths(queries, n, pairs, trust)
    direct = {(a, b - queries) for a, b, p in pairs if a < queries and p >= trust}
    result = []
    for q in range(queries):
        place = {row: i for i, row in enumerate(ranking[q])}
        first = sorted((x for x in range(n) if (q, x) in direct), key=place.get)
        reached = [x for x in range(n) if (q, x) not in direct and best[q, x] >= trust]
        reached.sort(key=lambda x: (-best[q, x], -similarity[q, x]))
        result.append(first + reached + [x for x in ranking[q] if x not in first + reached])
    return result


def collection(seed, queries=2, n=7, d=4):
    rng = np.random.default_rng(seed)
    everything = [(a, b) for a in range(queries + n) for b in range(max(a + 1, queries), queries + n)]
    chosen = rng.choice(len(everything), rng.integers(0, 13), replace=False)
    probabilities = rng.permutation(np.linspace(0.8, 0.999, len(chosen))).astype(np.float32)
    pairs = [(*everything[i], p) for i, p in zip(chosen, probabilities, strict=True)]
    descriptors = [rng.normal(size=(m, d)).astype(np.float32) for m in (queries, n)]
    similarity = descriptors[0] @ descriptors[1].T
    ranking = np.stack([rng.permutation(n) for _ in range(queries)]).astype(np.int32)
    weights = -np.sort(-similarity, axis=1)
    return pairs, ranking, weights, descriptors, similarity


def rank(pairs, ranking, weights, descriptors, trust=0.9, config=CONFIG):
    queries, n = len(descriptors[0]), len(descriptors[1])
    a, b, p = (np.array([pair[i] for pair in pairs]) for i in range(3))
    graphs = verified_graphs(a, b, p.astype(np.float32), queries, n, trust)
    config = config.model_copy(update={"trust": trust})
    return rank_trusted(*graphs, NeighborLists(ranking, weights), *descriptors, config)


@settings(deadline=None)  # the first call loads the compiled loop
@given(st.integers(0, 10_000), st.sampled_from([0.85, 0.9, 0.97]))
def test_equals_every_path_walked(seed, trust):
    pairs, ranking, weights, descriptors, similarity = collection(seed)
    found = rank(pairs, ranking, weights, descriptors, trust)
    wanted = reference(2, 7, pairs, ranking, similarity, np.float32(trust))
    assert [[row for row in rows if row >= 0] for rows in found.ranking.tolist()] == wanted


def test_scores_and_paths_are_those_of_the_best_product():
    pairs, ranking, weights, descriptors, _ = collection(3)
    pairs = [(0, 2, 0.99), (2, 3, 0.98), (3, 4, 0.97), (4, 5, 0.5)]
    found = rank(pairs, ranking, weights, descriptors)
    places = {row: i for i, row in enumerate(found.ranking[0].tolist())}
    np.testing.assert_allclose(found.scores[0, places[2]], 0.99 * 0.98 * 0.97, rtol=1e-6)
    path = trusted_path(found, 0, places[2])
    assert [(step.source, step.target) for step in path] == [(-1, 0), (0, 1), (1, 2)]
    assert [step.kind for step in path] == [3, 3, 3]
    assert found.kinds[0, places[3]] == 1  # 0.5 is no trusted edge


def test_a_photo_verified_directly_is_no_detour():
    _, ranking, weights, descriptors, _ = collection(3)
    found = rank([(0, 2, 0.99), (0, 3, 0.91), (2, 3, 0.99)], ranking, weights, descriptors)
    assert found.parents[0, :2].tolist() == [-1, -1]
    np.testing.assert_allclose(sorted(found.scores[0, :2]), [0.91, 0.99], rtol=1e-6)


def test_without_a_verified_pair_the_ranking_is_that_of_qe_sv():
    _, ranking, weights, descriptors, _ = collection(5)
    found = rank([(0, 2, 0.89)], ranking, weights, descriptors)
    np.testing.assert_array_equal(found.ranking[:, :7], ranking)
    np.testing.assert_array_equal(found.scores[:, :7], weights)
    assert (found.ranking[:, 7:] == -1).all()
    assert (found.kinds[:, :7] == 1).all()


def test_as_many_results_as_asked_for():
    pairs, ranking, weights, descriptors, _ = collection(11)
    longer = rank(pairs, ranking, weights, descriptors, 0.8)
    for p in (1, 3, 5):
        shorter = rank(pairs, ranking, weights, descriptors, 0.8, EgtConfig(p=p, threads=1))
        assert shorter.ranking.shape == (2, p)
        assert (shorter.ranking >= 0).all()
        assert all(set(a) <= set(b) for a, b in zip(shorter.ranking, longer.ranking, strict=True))


@pytest.mark.parametrize(
    ("pairs", "share"), [([], 4 / 16), ([(1, 2, 1.0)], 6 / 16), ([(1, 2, 1.0), (2, 4, 1.0)], 10 / 16)]
)
def test_share_of_connected_pairs(pairs, share):
    a, b, p = (
        (np.array([pair[i] for pair in pairs], float) for i in range(3)) if pairs else (np.zeros(0),) * 3
    )
    _, index = verified_graphs(a, b, p.astype(np.float32), 1, 4, 0.9)
    assert trusted_share(index) == pytest.approx(share)


def test_photos_asked_about_themselves_do_not_find_themselves():
    _, _, _, descriptors, _ = collection(7)
    index = descriptors[1]
    own = np.arange(len(index))
    graph = verified_graphs([0, 1], [1, 2], np.float32([0.99, 0.99]), 0, len(index), 0.9)[1]
    rows = np.stack([np.r_[own[:i], own[i + 1 :]] for i in own]).astype(np.int32)
    lists = NeighborLists(rows, np.zeros(rows.shape, np.float32))
    found = rank_trusted(graph, graph, lists, index, index, CONFIG, own)
    assert not (found.ranking == own[:, None]).any()
    assert found.ranking[0, :2].tolist() == [1, 2]
    assert found.kinds[0, :3].tolist() == [3, 3, 1]


def links(*circles, extra=()):
    """Return all links within some circles of photos, and some more, as two columns."""
    found = [(a, b) for circle in circles for a in circle for b in circle if a < b] + list(extra)
    return np.array(found, np.int64).T


def test_a_link_between_two_circles_is_not_vouched_for():
    row_a, row_b = links(range(5), range(5, 10), extra=[(4, 5)])
    assert vouched(row_a, row_b, 10).tolist() == [True] * 20 + [False]


@pytest.mark.parametrize(
    "found",
    [
        links(range(2)),
        links(extra=[(i, i + 1) for i in range(6)]),  # a chain
        links(extra=[(0, i) for i in range(1, 7)]),  # a star
        links(range(7)),
        links(range(5), extra=[(4, 5)]),  # a photo that one of a circle knows
    ],
)
def test_what_holds(found):
    assert vouched(*found, 7).all()


def test_links_in_blocks_and_no_links(monkeypatch):
    rng = np.random.default_rng(1)
    row_a, row_b = np.array([(a, b) for a in range(30) for b in range(a + 1, 30) if rng.random() < 0.2]).T
    whole = vouched(row_a, row_b, 30)
    assert 0 < whole.sum() < len(whole)
    monkeypatch.setattr("landmark_retrieval.graph.trusted.BLOCK", 7)
    assert (vouched(row_a, row_b, 30) == whole).all()
    assert len(vouched(row_a[:0], row_b[:0], 30)) == 0

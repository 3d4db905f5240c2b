from __future__ import annotations

from pathlib import Path

import graph_reference as reference
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import THRESHOLDS, graphs, to_csr, to_table, without_padding

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.graph import CsrGraph, EgtConfig, explore_exploit, symmetrize, trusted_path
from landmark_retrieval.graph.egt import explore_exploit_lists
from landmark_retrieval.graph.graph import as_lists
from landmark_retrieval.graph.kernel import SIMILARITY_EDGE
from landmark_retrieval.graph.text_format import read_text_graph
from landmark_retrieval.knn import NeighborLists

GOLDENS = Path(__file__).parents[1] / "conformance"
CASES = [
    pytest.param(folder, queries, path, id=f"{folder}-{path.stem}")
    for folder, queries in (("egt_ip", 100), ("egt_inl", 80))
    for path in sorted((GOLDENS / folder).glob("ranking_t*.txt"))
]


def expected_arrays(queries: list, index: list, t: float, p: int) -> tuple[np.ndarray, ...]:
    ranking = np.full((len(queries), p), -1)
    scores = np.full((len(queries), p), -np.inf)
    parents = np.full((len(queries), p), -1)
    adjacency = dict(enumerate(without_padding(index)))
    for row, near in enumerate(without_padding(queries)):
        for column, (u, w, parent) in enumerate(reference.traverse(near, adjacency, t, p)):
            ranking[row, column], scores[row, column] = u, w
            parents[row, column] = -1 if parent == "query" else parent
    return ranking, scores, parents


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("folder", "queries", "path"), CASES)
def test_goldens_line_for_line(folder: str, queries: int, path: Path, threads: int) -> None:
    graph = read_text_graph(GOLDENS / folder / "graph.txt", queries)
    config = EgtConfig(t=float(path.stem.removeprefix("ranking_t")), threads=threads)
    ranking = explore_exploit_lists(graph.queries, graph.index, config).ranking
    lines = [
        f"{name},{' '.join(graph.index_ids[i] for i in row if i >= 0)}"
        for name, row in zip(graph.query_ids, ranking, strict=True)
    ]
    assert lines == path.read_text().splitlines()


def test_there_are_goldens() -> None:
    assert len(CASES) == 8


@settings(max_examples=400, deadline=None)
@given(graphs(), THRESHOLDS, st.integers(1, 15), st.sampled_from([np.float32, np.float64]))
def test_equals_reference(graph: tuple[list, list], t: float, p: int, dtype: type) -> None:
    queries, index = graph
    result = explore_exploit_lists(
        to_csr(queries, dtype), to_csr(index, dtype), EgtConfig(t=t, p=p, threads=1)
    )
    ranking, scores, parents = expected_arrays(queries, index, t, p)
    np.testing.assert_array_equal(result.ranking, ranking)
    np.testing.assert_array_equal(result.scores, scores.astype(np.float32))
    np.testing.assert_array_equal(result.parents, parents)
    np.testing.assert_array_equal(result.kinds, np.where(ranking >= 0, SIMILARITY_EDGE, 0))


@pytest.mark.parametrize("ties", [3, 10_000])
@pytest.mark.parametrize("p", [1, 7, 60, 1000])
@pytest.mark.parametrize("t", [-np.inf, 0.3, 0.6, np.inf])
def test_equals_reference_where_the_heap_is_cut_down(t: float, p: int, ties: int) -> None:
    random = np.random.default_rng(p)
    n, k = 400, 30
    neighbors = np.array([random.choice(n, k, replace=False) for _ in range(n + 10)], np.int32)
    weights = np.sort(random.integers(0, ties, neighbors.shape) / ties, axis=1)[:, ::-1].astype(np.float32)
    graph = symmetrize(NeighborLists(neighbors[10:], weights[10:]))
    result = explore_exploit(
        NeighborLists(neighbors[:10], weights[:10]), graph, EgtConfig(t=t, p=p, threads=1)
    )
    index = [list(zip(*(part.tolist() for part in graph.neighbors(v)), strict=True)) for v in range(n)]
    queries = [list(zip(neighbors[i].tolist(), weights[i].tolist(), strict=True)) for i in range(10)]
    # t is rounded to the precision of the weights, so that an edge at the threshold is not above it
    ranking, scores, parents = expected_arrays(queries, index, float(np.float32(t)), p)
    np.testing.assert_array_equal(result.ranking, ranking)
    np.testing.assert_array_equal(result.scores, scores.astype(np.float32))
    np.testing.assert_array_equal(result.parents, parents)


def test_threads_do_not_change_the_result() -> None:
    random = np.random.default_rng(0)
    neighbors = random.integers(0, 900, (1000, 12)).astype(np.int32)
    weights = np.sort(random.random((1000, 12), np.float32), axis=1)[:, ::-1]
    graph = symmetrize(NeighborLists(neighbors, weights), threads=1)
    results = [
        explore_exploit(NeighborLists(neighbors, weights), graph, EgtConfig(t=0.9, p=50, threads=threads))
        for threads in (1, 4)
    ]
    for field in ("ranking", "scores", "parents", "kinds"):
        np.testing.assert_array_equal(getattr(results[0], field), getattr(results[1], field))


def test_threshold_is_strict() -> None:
    queries = to_csr([[(0, 0.9), (1, 0.5)]])
    index = to_csr([[(2, 0.7)], [], []])
    above = explore_exploit_lists(queries, index, EgtConfig(t=0.49))
    at = explore_exploit_lists(queries, index, EgtConfig(t=0.5))
    assert above.ranking[0, :3].tolist() == [0, 1, 2]
    assert at.ranking[0, :3].tolist() == [0, 2, 1]


def test_trusted_path_leads_from_the_query_to_the_result() -> None:
    queries = to_csr([[(0, 0.9)]])
    index = to_csr([[(1, 0.8), (2, 0.3)], [(3, 0.7)], [], []])
    traversal = explore_exploit_lists(queries, index, EgtConfig(t=np.inf, p=4))
    assert traversal.ranking.tolist() == [[0, 1, 3, 2]]
    steps = [(step.source, step.target, round(step.weight, 3)) for step in trusted_path(traversal, 0, 2)]
    assert steps == [(-1, 0, 0.9), (0, 1, 0.8), (1, 3, 0.7)]
    with pytest.raises(LandmarkRetrievalError, match="no result at position 4"):
        trusted_path(traversal, 0, 4)


@settings(max_examples=50, deadline=None)
@given(graphs(), THRESHOLDS)
def test_every_trusted_path_uses_edges_of_the_graph(graph: tuple[list, list], t: float) -> None:
    queries, index = graph
    traversal = explore_exploit_lists(to_csr(queries), to_csr(index), EgtConfig(t=t, p=20))
    for query, row in enumerate(traversal.ranking):
        for position in range(int((row >= 0).sum())):
            steps = trusted_path(traversal, query, position)
            assert steps[0].source == -1
            assert steps[-1].target == row[position]
            for before, step in zip([None, *steps], steps, strict=False):
                assert before is None or before.target == step.source
                near = queries[query] if step.source < 0 else index[step.source]
                assert (step.target, step.weight) in [(u, float(np.float32(w))) for u, w in near]


def test_query_without_neighbours_and_empty_index_have_no_results() -> None:
    config = EgtConfig(p=3)
    neighbors, weights = to_table([[], [(1, 0.5)]], 2)
    graph = to_csr([[], []])
    assert explore_exploit(NeighborLists(neighbors, weights), graph, config).ranking.tolist() == [
        [-1] * 3,
        [1, -1, -1],
    ]
    empty = explore_exploit(NeighborLists(neighbors[:1], weights[:1]), to_csr([]), config)
    assert empty.ranking.tolist() == [[-1] * 3]
    assert explore_exploit(NeighborLists(neighbors[:0], weights[:0]), graph, config).ranking.shape == (0, 3)


def test_memory_mapped_and_half_precision_input(tmp_path: Path) -> None:
    neighbors, weights = to_table([[(0, 0.5), (1, 0.25)]], 3)
    graph = to_csr([[(1, 0.75)], [(0, 0.75)]])
    config = EgtConfig(t=0.1, p=2)
    expected = explore_exploit(NeighborLists(neighbors, weights), graph, config)
    for name, array in (("n", neighbors), ("w", weights.astype(np.float16)), ("i", graph.indices)):
        np.save(tmp_path / f"{name}.npy", array)
    mapped = {name: np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "nwi"}
    result = explore_exploit(
        NeighborLists(mapped["n"], mapped["w"]),
        CsrGraph(graph.indptr, mapped["i"], graph.weights),
        config,
    )
    np.testing.assert_array_equal(result.ranking, expected.ranking)
    np.testing.assert_array_equal(result.scores, expected.scores)


@pytest.mark.parametrize(
    ("neighbors", "weights", "message"),
    [
        ([[0, 1]], [[0.5]], "both must be"),
        ([[0, 2]], [[0.5, 0.4]], "neighbour 2 is outside the index of 2 images"),
        ([[0, 1]], [[0.5, np.nan]], "row 0 has a weight that is not a number"),
    ],
)
def test_wrong_query_lists_are_refused(neighbors: list, weights: list, message: str) -> None:
    with pytest.raises(LandmarkRetrievalError, match=message):
        explore_exploit(NeighborLists(np.array(neighbors), np.array(weights)), to_csr([[], []]), EgtConfig())


def test_wrong_index_graph_is_refused() -> None:
    neighbors, weights = to_table([[(0, 1.0)]], 1)
    with pytest.raises(LandmarkRetrievalError, match="index graph: neighbour 5 is outside"):
        explore_exploit(NeighborLists(neighbors, weights), to_csr([[(5, 1.0)]]), EgtConfig())
    broken = CsrGraph(np.array([0, 2]), np.zeros(1, np.int32), np.zeros(1, np.float32))
    with pytest.raises(LandmarkRetrievalError, match="disagree"):
        explore_exploit(NeighborLists(neighbors, weights), broken, EgtConfig())


def test_configuration() -> None:
    assert EgtConfig(t="inf").t == np.inf
    assert EgtConfig(t=np.inf).fingerprint() != EgtConfig(t=-np.inf).fingerprint()
    with pytest.raises(
        LandmarkRetrievalError, match=r"option 't' should be a number, \.inf or -\.inf, got NaN"
    ):
        EgtConfig(t=np.nan)
    with pytest.raises(LandmarkRetrievalError, match="did you mean 'threads'"):
        EgtConfig(thread=1)


def test_as_lists_does_not_copy() -> None:
    neighbors, weights = to_table([[(0, 0.5)]], 4)
    lists = as_lists(NeighborLists(neighbors, weights))
    assert np.shares_memory(lists.indices, neighbors)
    assert np.shares_memory(lists.weights, weights)


@settings(max_examples=200, deadline=None)
@given(graphs(), THRESHOLDS, st.integers(1, 15), st.data())
def test_a_query_that_is_a_vertex_is_left_out_of_the_graph(
    graph: tuple[list, list], t: float, p: int, data: st.DataObject
) -> None:
    queries, index = graph
    own = data.draw(
        st.lists(st.integers(-1, len(index) - 1), min_size=len(queries), max_size=len(queries)), "own"
    )
    config = EgtConfig(t=t, p=p, threads=1)
    result = explore_exploit_lists(to_csr(queries), to_csr(index), config, own=np.array(own))
    for row, vertex in enumerate(own):
        rest = [[edge for edge in near if vertex < 0 or edge[0] != vertex] for near in index]
        near = [edge for edge in queries[row] if vertex < 0 or edge[0] != vertex]
        ranking, _, parents = expected_arrays([near], rest, t, p)
        np.testing.assert_array_equal(result.ranking[row], ranking[0])
        np.testing.assert_array_equal(result.parents[row], parents[0])

from __future__ import annotations

import logging

import graph_reference as reference
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import THRESHOLDS, graphs, to_csr, to_table, without_padding

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.graph import (
    EgtConfig,
    LabelBridge,
    LabelBridgeConfig,
    Votes,
    build_label_bridge,
    explore_exploit,
    explore_exploit_with_labels,
    label_hubs,
    label_path,
    trusted_path,
    vote_labels,
)
from landmark_retrieval.graph.kernel import LABEL_EDGE, SIMILARITY_EDGE
from landmark_retrieval.knn import NeighborLists


def with_labels(
    queries, index, bridge, config, bridge_config, query_descriptors=None, index_descriptors=None
):
    """Traverse with the hubs of a bridge, by descriptors of both sides where the order needs them."""
    hubs = label_hubs(bridge, bridge_config, index_descriptors)
    return explore_exploit_with_labels(queries, index, hubs, bridge.queries, config, query_descriptors)


ORDERS = ("query_similarity", "query_neighbors", "train_similarity", "row")
ROW_ORDER = LabelBridgeConfig(order="row")


def bridge_of(query_train: dict, image_train: dict, train_labels: list[int], q: int, n: int) -> LabelBridge:
    """Make a bridge from {row: (train row, similarity)}."""

    def side(links: dict, count: int) -> Votes:
        row = np.array([links.get(i, (-1, 0))[0] for i in range(count)], np.int32)
        similarity = np.array([links.get(i, (-1, -np.inf))[1] for i in range(count)], np.float32)
        label = np.array([train_labels[r] if r >= 0 else -1 for r in row], np.int64)
        return Votes(label, row, similarity)

    return LabelBridge(side(query_train, q), side(image_train, n), np.array(train_labels, np.int64))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("t", [-np.inf, -1.0, 0.4, 0.5, 0.7, 0.9, 0.95, 1.0, 5.0, np.inf])
def test_label_edges_come_before_similarity_edges_at_every_threshold(t: float, order: str) -> None:
    a, b, g = 0, 1, 2
    neighbors, weights = to_table([[(a, 0.9), (b, 0.5)]], 2)
    bridge = bridge_of({0: (0, 0.8)}, {g: (1, 0.6)}, [7, 7], q=1, n=3)
    traversal = with_labels(
        NeighborLists(neighbors, weights), to_csr([[], [], []]), bridge, EgtConfig(t=t, p=4),
        LabelBridgeConfig(order=order),
        np.ones((1, 2), np.float32), np.ones((3, 2), np.float32),
    )  # fmt: skip
    assert traversal.ranking.tolist() == [[g, a, b, -1]]
    assert traversal.kinds.tolist() == [[LABEL_EDGE, SIMILARITY_EDGE, SIMILARITY_EDGE, 0]]
    assert traversal.parents.tolist() == [[-1, -1, -1, -1]]
    assert traversal.scores[0, 0] == np.inf
    label, similarities, rows = label_path(bridge, 0, -1, g)
    assert (label, rows.tolist()) == (7, [0, 1])
    np.testing.assert_allclose(similarities, [0.8, 0.6])


@st.composite
def bridged(draw: st.DrawFn) -> tuple:
    queries, index = draw(graphs())
    train_labels = draw(st.lists(st.integers(-1, 3), max_size=8))
    rows = [row for row, label in enumerate(train_labels) if label >= 0]

    def links(count: int) -> dict:
        if not rows or not count:
            return {}
        link = st.tuples(st.sampled_from(rows), st.sampled_from([0.25, 0.5, 0.75]))
        return draw(st.dictionaries(st.integers(0, count - 1), link))

    return queries, index, links(len(queries)), links(len(index)), train_labels


@settings(max_examples=400, deadline=None)
@given(bridged(), THRESHOLDS, st.integers(1, 15), st.sampled_from(ORDERS), st.integers(0, 2**16))
def test_hubs_equal_the_graph_with_all_label_edges(
    case: tuple, t: float, p: int, order: str, seed: int
) -> None:
    queries, index, query_train, image_train, train_labels = case
    queries, index = without_padding(queries), without_padding(index)
    random = np.random.default_rng(seed)
    query_descriptors = random.integers(-2, 3, (len(queries), 9)).astype(np.float32)
    index_descriptors = random.integers(-2, 3, (len(index), 9)).astype(np.float32)
    bridge = bridge_of(query_train, image_train, train_labels, len(queries), len(index))
    result = with_labels(
        NeighborLists(*to_table(queries, 6)), to_csr(index), bridge, EgtConfig(t=t, p=p, threads=1),
        LabelBridgeConfig(order=order), query_descriptors, index_descriptors,
    )  # fmt: skip
    for query, near in enumerate(queries):
        train_rank = {i: (-similarity, i) for i, (_, similarity) in image_train.items()}
        ranks = {
            "row": {i: (i,) for i in image_train},
            "train_similarity": train_rank,
            "query_neighbors": {
                i: (-max(w for u, w in near if u == i),) if i in [u for u, _ in near] else (np.inf,)
                for i in image_train
            },
            "query_similarity": {
                i: (-float(query_descriptors[query] @ index_descriptors[i]), i) for i in image_train
            },
        }
        if order == "query_neighbors":
            ranks[order] = {i: ranks[order][i] + train_rank[i] for i in image_train}
        expected = reference.traverse_with_labels(
            query, near, dict(enumerate(index)), {i: row for i, (row, _) in query_train.items()},
            {i: row for i, (row, _) in image_train.items()}, train_labels, ranks[order], t, p,
        )  # fmt: skip
        assert [i for i in result.ranking[query].tolist() if i >= 0] == expected


@settings(max_examples=100, deadline=None)
@given(bridged(), THRESHOLDS)
def test_paths_through_labels_are_complete(case: tuple, t: float) -> None:
    queries, index, query_train, image_train, train_labels = case
    bridge = bridge_of(query_train, image_train, train_labels, len(queries), len(index))
    traversal = with_labels(
        NeighborLists(*to_table(queries, 6)),
        to_csr(index),
        bridge,
        EgtConfig(t=t, p=20),
        LabelBridgeConfig(order="row"),
    )
    for query, row in enumerate(traversal.ranking):
        assert len(set(row[row >= 0])) == (row >= 0).sum()
        for position in range(int((row >= 0).sum())):
            steps = trusted_path(traversal, query, position)
            assert (steps[0].source, steps[-1].target) == (-1, row[position])
            for step in steps:
                near = queries[query] if step.source < 0 else index[step.source]
                source_label = (
                    bridge.queries.label[query] if step.source < 0 else bridge.index.label[step.source]
                )
                if step.kind == LABEL_EDGE:
                    assert bridge.index.label[step.target] == source_label >= 0
                else:
                    assert step.target in [u for u, _ in near]


def test_label_of_a_reached_image_opens_its_bridge_at_once() -> None:
    neighbors, weights = to_table([[(0, 0.9), (1, 0.8)]], 2)
    index = to_csr([[], [], [(3, 0.99)], []])
    bridge = bridge_of({}, {0: (0, 0.5), 2: (0, 0.5)}, [4], q=1, n=4)
    for t, expected in ((0.1, [0, 2, 1, 3]), (np.inf, [0, 2, 3, 1])):
        result = with_labels(
            NeighborLists(neighbors, weights),
            index,
            bridge,
            EgtConfig(t=t, p=4),
            LabelBridgeConfig(order="row"),
        )
        assert result.ranking.tolist() == [expected]
        assert trusted_path(result, 0, 1)[-1].source == 0


@pytest.mark.parametrize("train_labels", [[], [-1, -1]])
def test_without_labels_the_result_is_plain_egt(
    train_labels: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    random = np.random.default_rng(0)
    neighbors = random.integers(0, 50, (60, 5)).astype(np.int32)
    weights = np.sort(random.random((60, 5), np.float32), axis=1)[:, ::-1]
    graph = to_csr([list(zip(n, w, strict=True)) for n, w in zip(neighbors[10:], weights[10:], strict=True)])
    nothing, none = np.zeros((60, 0), np.int32), np.zeros((60, 0), np.float32)
    if train_labels:
        nothing, none = random.integers(0, 2, (60, 3)).astype(np.int32), np.ones((60, 3), np.float32)
    bridge = build_label_bridge(
        NeighborLists(nothing[:10], none[:10]),
        NeighborLists(nothing[10:], none[10:]),
        np.array(train_labels, np.int64),
        LabelBridgeConfig(),
    )
    config = EgtConfig(t=0.5, p=20)
    with caplog.at_level(logging.WARNING):
        result = with_labels(
            NeighborLists(neighbors[:10], weights[:10]), graph, bridge, config, LabelBridgeConfig()
        )
    assert "the ranking is that of plain EGT" in caplog.text
    plain = explore_exploit(NeighborLists(neighbors[:10], weights[:10]), graph, config)
    for field in ("ranking", "scores", "parents", "kinds"):
        np.testing.assert_array_equal(getattr(result, field), getattr(plain, field))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.integers(-1, 2), max_size=6),
    st.lists(st.lists(st.integers(0, 5), max_size=6, unique=True), min_size=1, max_size=5),
    st.integers(1, 6),
    st.sampled_from([-np.inf, 0.4, 0.65]),
)
def test_votes_equal_reference(labels: list[int], lists: list, votes: int, floor: float) -> None:
    lists = [[row for row in near if row < len(labels)] for near in lists]
    near = [
        [(row, float(np.float32(0.9 - column / 10))) for column, row in enumerate(rows)] for rows in lists
    ]
    neighbors, similarities = to_table(near, 6)
    found = vote_labels(NeighborLists(neighbors, similarities), np.array(labels, np.int64), votes, floor)
    expected = [reference.vote(edges, labels, votes, floor) for edges in near]
    result = found.label, found.train_row, found.similarity
    assert list(zip(*(part.tolist() for part in result), strict=True)) == expected
    assert [part.dtype for part in result] == [np.int64, np.int32, np.float32]


def test_votes_need_a_strict_majority() -> None:
    labels = np.array([5, 5, 6, 7, 8], np.int64)
    neighbors = np.array([[2, 1, 0], [2, 3, 0], [0, -1, -1], [0, 1, -1]], np.int32)
    similarities = np.array([[0.9, 0.8, 0.7]] * 4, np.float32)
    found = vote_labels(NeighborLists(neighbors, similarities), labels, 3)
    assert found.label.tolist() == [5, -1, -1, 5]
    assert found.train_row.tolist() == [1, -1, -1, 0]
    np.testing.assert_allclose(found.similarity[[0, 3]], [0.8, 0.9])
    # with four votes, two against one against one is no majority
    four = np.array([[0, 1, 2, 3]], np.int32)
    assert vote_labels(NeighborLists(four, np.ones((1, 4))), labels, 4).label.tolist() == [-1]


def test_wrong_votes_are_refused() -> None:
    labels = np.arange(5)
    with pytest.raises(LandmarkRetrievalError, match="5 train images must vote but only 3"):
        vote_labels(NeighborLists(np.zeros((2, 3), np.int32), np.ones((2, 3))), labels, 5)
    with pytest.raises(LandmarkRetrievalError, match="neighbour 9 is not one of 5 train images"):
        vote_labels(NeighborLists(np.full((2, 3), 9, np.int32), np.ones((2, 3))), labels, 3)
    one = NeighborLists(np.zeros((2, 1), np.int32), np.ones((2, 1)))
    assert vote_labels(one, labels[:1], 3).label.tolist() == [-1, -1]


def test_wrong_bridges_are_refused() -> None:
    lists = NeighborLists(*to_table([[(0, 0.5)]], 1))
    graph, config = to_csr([[], []]), EgtConfig()
    bridge = bridge_of({0: (0, 0.5)}, {1: (0, 0.5)}, [3], q=1, n=2)
    with pytest.raises(LandmarkRetrievalError, match="needs the descriptors"):
        with_labels(lists, graph, bridge, config, LabelBridgeConfig())
    with pytest.raises(LandmarkRetrievalError, match="extract them again"):
        with_labels(lists, graph, bridge, config, LabelBridgeConfig(), np.ones((1, 4)), np.ones((3, 4)))
    other = bridge_of({}, {}, [3], q=2, n=2)
    with pytest.raises(LandmarkRetrievalError, match="vote the labels again"):
        with_labels(lists, graph, other, config, LabelBridgeConfig())
    with pytest.raises(LandmarkRetrievalError, match="did you mean 'index_votes'"):
        LabelBridgeConfig(index_vote=3)

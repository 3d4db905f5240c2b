"""Random graphs with what breaks traversals: ties, duplicates, isolated vertices, padding."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from landmark_retrieval.graph import CsrGraph

THRESHOLDS = st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 1.0, 2.0, 7.0, np.inf])
WEIGHTS = st.one_of(
    st.integers(0, 4).map(float),  # many ties
    st.floats(-2, 2, width=16),
    st.just(-0.0),
)


def lists_of(
    count: int, targets: int, length: int, weights: st.SearchStrategy = WEIGHTS
) -> st.SearchStrategy:
    """Lists of (neighbour or -1, weight), duplicates and self-loops included."""
    if targets == 0:
        return st.just([[] for _ in range(count)])
    edge = st.tuples(st.integers(-1, targets - 1), weights)
    return st.lists(st.lists(edge, max_size=length), min_size=count, max_size=count)


@st.composite
def graphs(draw: st.DrawFn, ordered: bool | None = None) -> tuple[list, list]:
    """Query lists and index lists, sorted by falling weight or not."""
    n = draw(st.integers(0, 12))
    queries = draw(lists_of(draw(st.integers(1, 4)), n, 6))
    index = draw(lists_of(n, n, 6))
    if draw(st.booleans()) if ordered is None else ordered:
        queries, index = (
            [sorted(near, key=lambda edge: -edge[1]) for near in lists] for lists in (queries, index)
        )
    return queries, index


def to_csr(lists: list[list[tuple[int, float]]], dtype: type = np.float32) -> CsrGraph:
    lengths = [len(near) for near in lists]
    edges = [edge for near in lists for edge in near]
    return CsrGraph(
        indptr=np.append(0, np.cumsum(lengths)).astype(np.int64),
        indices=np.array([u for u, _ in edges], np.int32),
        weights=np.array([w for _, w in edges], dtype),
    )


def from_csr(graph: CsrGraph) -> list[list[tuple[int, float]]]:
    return [[(int(u), float(w)) for u, w in zip(*graph.neighbors(v), strict=True)] for v in range(len(graph))]


def to_table(lists: list[list[tuple[int, float]]], k: int) -> tuple[np.ndarray, np.ndarray]:
    neighbors = np.full((len(lists), k), -1, np.int32)
    weights = np.full((len(lists), k), -np.inf, np.float32)
    for row, near in enumerate(lists):
        for column, (u, w) in enumerate(near):
            neighbors[row, column], weights[row, column] = u, w
    return neighbors, weights


def without_padding(lists: list[list[tuple[int, float]]]) -> list[list[tuple[int, float]]]:
    return [[(u, w) for u, w in near if u >= 0] for near in lists]

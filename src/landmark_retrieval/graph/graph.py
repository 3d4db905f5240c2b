"""The weighted graph that is traversed: lists of neighbours in compressed sparse rows.

Memory of `symmetrize` for n vertices and E directed edges: the reverse lists (8 bytes an edge), the result
(8 bytes for each of up to 2E entries) and 8 bytes a vertex for each thread; nothing else of that size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.knn import NeighborLists
from landmark_retrieval.runtime.compiled import compiled, frozen, run_chunks
from landmark_retrieval.runtime.threads import thread_count

CHUNK = 16384
"""Vertices that a thread takes at a time."""


@dataclass(frozen=True, eq=False)
class CsrGraph:
    """Lists of weighted neighbours, one a vertex.

    Attributes:
        indptr: int64 `[n + 1]`; the list of vertex v is the slice `indptr[v]:indptr[v + 1]` of the others.
        indices: int32 `[edges]` neighbours; negative entries are ignored.
        weights: float32 or float64 `[edges]`, any numbers but NaN.
    """

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]
    weights: NDArray[Any]

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def neighbors(self, vertex: int) -> tuple[NDArray[np.int32], NDArray[Any]]:
        """Return the neighbours of one vertex and their weights, in stored order."""
        part = slice(int(self.indptr[vertex]), int(self.indptr[vertex + 1]))
        return self.indices[part], self.weights[part]


def as_lists(table: NeighborLists) -> CsrGraph:
    """View a k-NN table as lists, without copying it.

    Args:
        table: `[n, k]` neighbours, -1 padded, and weights; those in float16 are copied to float32.

    Raises:
        LandmarkRetrievalError: when the shapes differ.
    """
    neighbors, weights = table.neighbors, table.weights
    if neighbors.ndim != 2 or neighbors.shape != weights.shape:
        raise LandmarkRetrievalError(
            f"k-NN graph: neighbors have shape {neighbors.shape} and weights {weights.shape}; "
            "both must be [n, k]: build the graph again"
        )
    n, k = neighbors.shape
    dtype = np.float64 if weights.dtype == np.float64 else np.float32
    return CsrGraph(
        indptr=frozen(np.arange(n + 1, dtype=np.int64) * k),
        indices=frozen(neighbors, np.int32).reshape(-1),
        weights=frozen(weights, dtype).reshape(-1),
    )


def symmetrize(table: NeighborLists, threads: int = 0) -> CsrGraph:
    """Make a k-NN table undirected: the union of both directions with the larger weight.

    Args:
        table: `[n, k]` rows of the same table, -1 padded, and their similarities.
        threads: most threads to use, 0 for all.

    Returns:
        The graph; each list sorted by falling weight, ties by lower row number; without loops or repeats.

    Raises:
        LandmarkRetrievalError: when shapes differ, a row number is outside the table or a weight is NaN.
    """
    return _union(as_lists(table), threads)


def symmetrize_lists(graph: CsrGraph, threads: int = 0) -> CsrGraph:
    """Make lists of any lengths undirected; as `symmetrize`.

    Lists that are symmetric and sorted by falling weight already are returned as they are, so that the
    order of their ties is kept.

    Args:
        graph: lists of any lengths, in any order.
        threads: most threads to use, 0 for all.

    Returns:
        The graph, as `symmetrize` gives it.

    Raises:
        LandmarkRetrievalError: a neighbour is no vertex or a weight is NaN.
    """
    union = _union(graph, threads)
    same = (
        np.array_equal(union.indptr, graph.indptr)
        and np.array_equal(union.weights, graph.weights)
        and _same_neighbors(frozen(union.indptr), frozen(union.indices), frozen(graph.indices))
    )
    return graph if same else union


def _union(graph: CsrGraph, threads: int) -> CsrGraph:
    """Return the union of both directions in canonical order."""
    threads = thread_count(threads)
    check_edges(graph, len(graph), "k-NN graph")
    indptr, indices, weights = frozen(graph.indptr), frozen(graph.indices), frozen(graph.weights)
    n = len(graph)
    reverse = tuple(frozen(part) for part in _reverse(indptr, indices, weights))
    degree = np.zeros(n + 1, np.int64)

    def seen() -> NDArray[np.int64]:
        return np.full(n, -1, np.int64)

    def count(place: NDArray[np.int64], start: int, stop: int) -> None:
        _count_union(indptr, indices, *reverse[:2], place, degree, start, stop)

    run_chunks(n, CHUNK, threads, seen, count)
    joined = np.cumsum(degree)
    result_indices = np.empty(joined[-1], np.int32)
    result_weights = np.empty(joined[-1], weights.dtype)
    sort = _sort_lists if weights.dtype == np.float32 else _sort_lists_double

    def fill(place: NDArray[np.int64], start: int, stop: int) -> None:
        _fill_union(
            indptr, indices, weights, *reverse, place, joined, result_indices, result_weights, start, stop
        )
        sort(joined, result_indices, result_weights, start, stop)

    run_chunks(n, CHUNK, threads, seen, fill)
    return CsrGraph(joined, result_indices, result_weights)


def check_edges(graph: CsrGraph, vertices: int, name: str) -> bool:
    """Check that all edges lead to existing vertices and have weights.

    Args:
        graph: lists of neighbours.
        vertices: number of vertices that the lists may name.
        name: name of the graph, for the message.

    Returns:
        Whether every list is sorted by falling weight.

    Raises:
        LandmarkRetrievalError: when not.
    """
    edges = len(graph.indices)
    if len(graph.weights) != edges or len(graph.indptr) == 0 or graph.indptr[-1] != edges:
        raise LandmarkRetrievalError(f"{name}: indptr, indices and weights disagree: build the graph again")
    largest, nan, descending = _inspect(
        frozen(graph.indptr, np.int64), frozen(graph.indices, np.int32), frozen(graph.weights)
    )
    if largest >= vertices:
        raise LandmarkRetrievalError(
            f"{name}: neighbour {largest} is outside the index of {vertices} images: build the graph again"
        )
    if nan >= 0:
        raise LandmarkRetrievalError(f"{name}: row {nan} has a weight that is not a number")
    return bool(descending)


@compiled
def _inspect(indptr, indices, weights):  # type: ignore[no-untyped-def]
    """Return the largest neighbour, the first row with a NaN weight (or -1), and whether lists descend."""
    largest = -1
    nan = -1
    descending = True
    for v in range(len(indptr) - 1):
        previous = np.inf
        for e in range(indptr[v], indptr[v + 1]):
            w = weights[e]
            largest = max(largest, indices[e])
            if w > previous:
                descending = False
            elif np.isnan(w) and nan < 0 and indices[e] >= 0:
                nan = v
            previous = w
    return largest, nan, descending


@compiled
def _reverse(indptr, indices, weights):  # type: ignore[no-untyped-def]
    """Return the reverse lists; sources ascend in each."""
    n = len(indptr) - 1
    starts = np.zeros(n + 2, np.int64)
    for e in range(indptr[0], indptr[n]):
        if indices[e] >= 0:
            starts[indices[e] + 2] += 1
    for v in range(n):
        starts[v + 2] += starts[v + 1]
    sources = np.empty(starts[n + 1], np.int32)
    values = np.empty(starts[n + 1], weights.dtype)
    for v in range(n):
        for e in range(indptr[v], indptr[v + 1]):
            u = indices[e]
            if u >= 0:
                sources[starts[u + 1]] = v
                values[starts[u + 1]] = weights[e]
                starts[u + 1] += 1
    return starts[: n + 1], sources, values


@compiled
def _count_union(indptr, indices, reverse_ptr, sources, place, degree, start, stop):  # type: ignore[no-untyped-def]
    """Set degree[v + 1] to the number of distinct neighbours of v in either direction, without v."""
    for v in range(start, stop):
        count = 0
        for e in range(indptr[v], indptr[v + 1]):
            u = indices[e]
            if u >= 0 and u != v and place[u] != v:
                place[u] = v
                count += 1
        for e in range(reverse_ptr[v], reverse_ptr[v + 1]):
            u = sources[e]
            if u != v and place[u] != v:
                place[u] = v
                count += 1
        degree[v + 1] = count


@compiled
def _fill_union(  # type: ignore[no-untyped-def]
    indptr,
    indices,
    weights,
    reverse_ptr,
    sources,
    values,
    place,
    joined,
    out_indices,
    out_weights,
    start,
    stop,
):
    """Write each vertex's distinct neighbours with the larger weight; `place[u]` is where u was written."""
    for v in range(start, stop):
        begin = joined[v]
        end = begin
        for direction in range(2):
            pointer = indptr if direction == 0 else reverse_ptr
            names = indices if direction == 0 else sources
            numbers = weights if direction == 0 else values
            for e in range(pointer[v], pointer[v + 1]):
                u = names[e]
                if u < 0 or u == v:
                    continue
                at = place[u]
                if begin <= at < end and out_indices[at] == u:
                    out_weights[at] = max(out_weights[at], numbers[e])
                else:
                    place[u] = end
                    out_indices[end] = u
                    out_weights[end] = numbers[e]
                    end += 1


@compiled
def _same_neighbors(indptr, indices, others):  # type: ignore[no-untyped-def]
    """Return whether both graphs have the same neighbours, in any order; those of the first are distinct."""
    place = np.full(len(indptr) - 1, -1, np.int64)
    for v in range(len(indptr) - 1):
        for e in range(indptr[v], indptr[v + 1]):
            place[indices[e]] = v
        for e in range(indptr[v], indptr[v + 1]):
            if others[e] < 0 or place[others[e]] != v:
                return False
            place[others[e]] = -1
    return True


@compiled
def _sort_lists(joined, indices, weights, start, stop):  # type: ignore[no-untyped-def]
    """Sort lists by falling float32 weight, then rising neighbour: as 64-bit integers of the same order."""
    for v in range(start, stop):
        begin, end = joined[v], joined[v + 1]
        bits = (weights[begin:end] + np.float32(0)).view(np.uint32)  # -0 becomes +0
        keys = np.empty(end - begin, np.uint64)
        for i in range(end - begin):
            b = np.uint64(bits[i])
            falling = b if b >> np.uint64(31) else b ^ np.uint64(0x7FFFFFFF)
            keys[i] = (falling << np.uint64(32)) | np.uint64(indices[begin + i])
        keys.sort()
        restored = np.empty(end - begin, np.uint32)
        for i in range(end - begin):
            falling = keys[i] >> np.uint64(32)
            restored[i] = falling if falling >> np.uint64(31) else falling ^ np.uint64(0x7FFFFFFF)
            indices[begin + i] = keys[i] & np.uint64(0xFFFFFFFF)
        weights[begin:end] = restored.view(np.float32)


@compiled
def _sort_lists_double(joined, indices, weights, start, stop):  # type: ignore[no-untyped-def]
    """Sort lists by falling float64 weight, then rising neighbour."""
    for v in range(start, stop):
        begin, end = joined[v], joined[v + 1]
        order = np.argsort(-weights[begin:end])
        indices[begin:end] = indices[begin:end][order]
        weights[begin:end] = weights[begin:end][order]
        first = begin
        for e in range(begin + 1, end + 1):
            if e == end or weights[e] != weights[first]:
                if e - first > 1:
                    indices[first:e].sort()
                first = e

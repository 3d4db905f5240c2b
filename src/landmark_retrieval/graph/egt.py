"""Explore-exploit graph traversal (EGT).

Chang, Yu, Liu, Volkovs: "Explore-Exploit Graph Traversal for Image Retrieval", CVPR 2019. From
the query the traversal alternates between *exploring*, where the edges of all newly reached images go to a
heap, and *exploiting*, where the best edges come out: always one, and then all above the threshold t. With t
above every weight it is Prim's algorithm, with t below every weight a search level by level.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from landmark_retrieval.configuration import OpenConfiguration, Threads, Threshold
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.graph.graph import CsrGraph, as_lists, check_edges
from landmark_retrieval.graph.kernel import ORDER_STORED, make_workspace, traverse
from landmark_retrieval.knn import NeighborLists
from landmark_retrieval.runtime.compiled import frozen, run_chunks
from landmark_retrieval.runtime.threads import thread_count

QUERIES_AT_A_TIME = 64
"""Queries that a thread takes at a time."""


class EgtConfig(OpenConfiguration):
    """How the graph is traversed.

    Attributes:
        weights: `similarity`: edges are inner products, traversed by t (the paper). `verified`: paths run
            over edges that spatial verification proves, and whom they do not reach keeps its place
            (`graph.trusted`); t is not used.
        trust: probability of the same place from which a verified edge, and a whole path, is trusted.
        t: threshold in the unit of the edge weights; edges above it come out before the graph is expanded
            again. `.inf` always follows the single best edge, `-.inf` goes level by level. Where nothing
            chose one, 0.42, which the authors' README uses for inner products on Revisited Oxford.
        p: results per query, at most.
        threads: most threads to use, 0 for all cores. The result does not depend on it.
    """

    model_config = ConfigDict(ser_json_inf_nan="strings")

    DEFAULTS: ClassVar = {"t": 0.42}

    weights: Literal["verified", "similarity"] = "verified"
    trust: float = Field(default=0.9, gt=0, lt=1)
    t: Threshold | None = None
    p: int = Field(default=100, ge=1, le=1_000_000_000)
    threads: Threads = 0


@dataclass(frozen=True, eq=False)
class Traversal:
    """What was reached from each query, in order, and how.

    Attributes:
        ranking: int32 `[q, p]` index rows, -1 where fewer than p could be reached.
        scores: float32 `[q, p]` weight of the edge that brought each result: its similarity or inlier count;
            for verified edges the worth of the path; +inf for a label edge, -inf for padding.
        parents: int32 `[q, p]` index row that the edge came from, -1 for the query itself (and padding).
        kinds: int8 `[q, p]` the edge: 1 similarity, 2 label, 3 verified (`graph.kernel`), 0 for padding.
    """

    ranking: NDArray[np.int32]
    scores: NDArray[np.float32]
    parents: NDArray[np.int32]
    kinds: NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class Hubs:
    """The images of each label as lists, for the traversal (`label_bridge.label_hubs` makes them).

    Attributes:
        labels: int64 `[hubs]` label of each hub, ascending.
        query_hub: int32 `[q]` hub of each query, -1 for none.
        index_hub: int32 `[n]` hub of each index image, -1 for none.
        indptr: int64 `[hubs + 1]`.
        members: int32 index rows of each hub in the order in which they come out.
        order: one of the `ORDER_` constants of `graph.kernel`.
        query_descriptors: float32 `[q, d]`, empty unless the order compares descriptors.
        index_descriptors: float32 `[n, d]`, likewise.
    """

    labels: NDArray[np.int64]
    query_hub: NDArray[np.int32]
    index_hub: NDArray[np.int32]
    indptr: NDArray[np.int64]
    members: NDArray[np.int32]
    order: int
    query_descriptors: NDArray[np.float32]
    index_descriptors: NDArray[np.float32]


NO_DESCRIPTORS = np.zeros((0, 0), np.float32)

NO_HUBS = Hubs(
    labels=np.zeros(0, np.int64),
    query_hub=np.zeros(0, np.int32),
    index_hub=np.zeros(0, np.int32),
    indptr=np.zeros(1, np.int64),
    members=np.zeros(0, np.int32),
    order=ORDER_STORED,
    query_descriptors=NO_DESCRIPTORS,
    index_descriptors=NO_DESCRIPTORS,
)


def explore_exploit(
    queries: NeighborLists,
    index_graph: CsrGraph,
    config: EgtConfig,
    own: NDArray[np.int64] | None = None,
) -> Traversal:
    """Traverse the graph from every query.

    Args:
        queries: `[q, k]` index rows nearest to each query, -1 padded, and their similarities.
        index_graph: undirected graph of the n index images (`symmetrize`).
        config: parameters.
        own: int64 `[q]` the index row that is the query itself and left out, -1 for none; None for none at
            all.

    Returns:
        The results; a query without neighbours has none.

    Raises:
        LandmarkRetrievalError: when shapes differ or a neighbour is outside the index.
    """
    return explore_exploit_lists(as_lists(queries), index_graph, config, own=own)


def explore_exploit_lists(
    queries: CsrGraph,
    index_graph: CsrGraph,
    config: EgtConfig,
    hubs: Hubs = NO_HUBS,
    product: bool = False,
    own: NDArray[np.int64] | None = None,
) -> Traversal:
    """Traverse the graph from queries with lists of any lengths; otherwise as `explore_exploit`.

    Args:
        queries: list of index rows and weights of each query; lists need not be sorted.
        index_graph: undirected graph of the n index images, weights of the queries' dtype.
        config: parameters.
        hubs: images of one label, which are reached before all others; none by default.
        product: whether an edge is worth the product of the weights (0 to 1) along its path, not its own
            weight alone.
        own: as of `explore_exploit`.

    Returns:
        The results.

    Raises:
        LandmarkRetrievalError: a neighbour is outside the index or a weight is NaN.
    """
    return prepare(queries, index_graph, config, hubs, product, own)()


def prepare(
    queries: CsrGraph,
    index_graph: CsrGraph,
    config: EgtConfig,
    hubs: Hubs = NO_HUBS,
    product: bool = False,
    own: NDArray[np.int64] | None = None,
) -> Callable[[], Traversal]:
    """Check the graphs, load (or compile) the loop, and return the traversal as a function to call.

    This separates what is done once from what is done for each query, so that either can be timed. Arguments
    and errors as in `explore_exploit_lists`.
    """
    n = len(index_graph)
    q_descending = check_edges(queries, n, "query lists")
    descending = check_edges(index_graph, n, "index graph")
    dtype = np.result_type(queries.weights.dtype, index_graph.weights.dtype, np.float32)
    graph = (
        frozen(queries.indptr, np.int64),
        frozen(queries.indices, np.int32),
        frozen(queries.weights, dtype),
        frozen(index_graph.indptr, np.int64),
        frozen(index_graph.indices, np.int32),
        frozen(index_graph.weights, dtype),
        q_descending,
        descending,
        float(dtype.type(config.settled().t)),
        product,
        frozen(hubs.query_hub),
        frozen(hubs.index_hub),
        frozen(hubs.indptr),
        frozen(hubs.members),
        hubs.order,
        frozen(hubs.query_descriptors),
        frozen(hubs.index_descriptors),
        frozen(np.zeros(0) if own is None else own, np.int64),
    )
    largest_hub = int(np.diff(hubs.indptr).max(initial=0))

    def workspace() -> tuple[Any, ...]:
        return make_workspace(n, min(config.p, max(n, 1)), len(hubs.indptr) - 1, largest_hub, dtype)

    def run() -> Traversal:
        shape = (len(queries), config.p)
        result = Traversal(
            ranking=np.full(shape, -1, np.int32),
            scores=np.full(shape, -np.inf, np.float32),
            parents=np.full(shape, -1, np.int32),
            kinds=np.zeros(shape, np.int8),
        )
        out = (result.ranking, result.scores, result.parents, result.kinds)

        def chunk(arrays: tuple[Any, ...], start: int, stop: int) -> None:
            traverse(*graph, *arrays, *out, start, stop)

        run_chunks(len(queries), QUERIES_AT_A_TIME, thread_count(config.threads), workspace, chunk)
        return result

    tiny = make_workspace(1, 1, 0, 0, dtype)
    nothing = np.zeros((0, 1), np.int32)
    traverse(*graph, *tiny, nothing, nothing.astype(np.float32), nothing, nothing.astype(np.int8), 0, 0)
    return run


@dataclass(frozen=True)
class PathStep:
    """One edge of a trusted path.

    Attributes:
        kind: 1 similarity, 2 label, 3 verified (the constants of `graph.kernel`).
        source: index row, -1 for the query.
        target: index row.
        weight: of the edge, +inf for a label edge.
    """

    kind: int
    source: int
    target: int
    weight: float


def trusted_path(traversal: Traversal, query: int, position: int) -> list[PathStep]:
    """Return the chain of edges that brought a result, from the query to it.

    Args:
        traversal: of all queries.
        query: row of the query.
        position: of the result in the query's ranking, from 0.

    Raises:
        LandmarkRetrievalError: when there is no result at this position.
    """
    ranking = traversal.ranking[query]
    if not 0 <= position < len(ranking) or ranking[position] < 0:
        raise LandmarkRetrievalError(f"query {query} has no result at position {position}")
    steps: list[PathStep] = []
    while True:
        step = PathStep(
            kind=int(traversal.kinds[query, position]),
            source=int(traversal.parents[query, position]),
            target=int(ranking[position]),
            weight=float(traversal.scores[query, position]),
        )
        steps.append(step)
        if step.source < 0:
            return steps[::-1]
        position = int(np.flatnonzero(ranking == step.source)[0])

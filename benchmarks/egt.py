"""Explore-exploit graph traversal: time per query, symmetrisation, and loading the EGT authors' text format.

    python -m benchmarks.egt [--vertices 20000 200000] [--million] [--queries 2000]

The graphs are synthetic: every vertex has neighbours in its group of 200 (more often near the front of its
list) and anywhere else, numbered at random, with falling weights between 0.95 and 0.05. Times per query are
medians of five runs on one thread over four thresholds, so that they include Prim's order (t above all
weights) and level-wise search (t below all); the text format is timed through `kedro egt` itself. With
`EGT_JAVA_CLASSPATH` set, the EGT authors' program reads the same file (main class `EGT_JAVA_MAIN`, default
`EGT`); it must write the same ranking, and the ratio of the times per query is printed.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from landmark_retrieval.graph import CsrGraph, EgtConfig, symmetrize
from landmark_retrieval.graph.egt import prepare
from landmark_retrieval.graph.graph import as_lists
from landmark_retrieval.knn import NeighborLists

THRESHOLDS = (-np.inf, 0.5, 0.8, np.inf)
TEXT_THRESHOLD = 8000.0


@numba.njit(cache=True)
def random_table(
    rows: int, vertices: int, k: int, group: int, seed: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return neighbours int32 `[rows, k]` and falling weights float32 `[rows, k]`."""
    np.random.seed(seed)  # noqa: NPY002 (the generator that compiled code has)
    number = np.random.permutation(vertices)  # noqa: NPY002
    place = np.argsort(number)
    neighbors = np.empty((rows, k), np.int32)
    weights = np.empty((rows, k), np.float32)
    seen = np.full(vertices, -1, np.int64)
    for v in range(rows):
        first = place[v] // group * group
        weight = 0.95
        seen[v] = v
        for c in range(k):
            u = v
            while seen[u] == v:
                if np.random.random() < 0.7 * (1 - 0.8 * c / k):  # noqa: NPY002
                    u = number[min(vertices - 1, first + np.random.randint(group))]  # noqa: NPY002
                else:
                    u = np.random.randint(vertices)  # noqa: NPY002
            seen[u] = v
            weight -= (weight - 0.05) * np.random.random() * 4.0 / k  # noqa: NPY002
            neighbors[v, c] = u
            weights[v, c] = weight
    return neighbors, weights


def seconds(run: Callable[[], Any], repeats: int = 5) -> float:
    """Median time of a call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def bench_arrays(vertices: int, k: int, queries: int) -> None:
    """Time symmetrisation and traversal of arrays."""
    table = NeighborLists(*random_table(vertices, vertices, k, 200, 1))
    queries_table = NeighborLists(*random_table(queries, vertices, k, 200, 2))
    symmetrize(NeighborLists(table.neighbors[:100] % 100, table.weights[:100]))
    graph = CsrGraph(*(np.empty(0),) * 3)

    def build() -> None:
        nonlocal graph
        graph = symmetrize(table)

    built = seconds(build, 1)
    print(
        f"{vertices:>9,} x k={k:<3} symmetrize {built:6.2f} s   degree {len(graph.indices) / vertices:.0f}",
        end="",
    )
    lists = as_lists(queries_table)
    times = [
        1000 / queries * seconds(prepare(lists, graph, EgtConfig(t=t, p=100, threads=1))) for t in THRESHOLDS
    ]
    shown = "  ".join(f"t={t:g}: {ms:.3f}" for t, ms in zip(THRESHOLDS, times, strict=True))
    print(f"   ms a query, 1 thread: {shown}   peak {peak_gib():.2f} GiB")


def bench_many_queries(vertices: int, k: int, queries: int) -> None:
    """Time a large job on all cores, from arrays to ranking."""
    table = NeighborLists(*random_table(vertices, vertices, k, 200, 1))
    queries_table = NeighborLists(*random_table(queries, vertices, k, 200, 2))
    start = time.perf_counter()
    graph = symmetrize(table)
    built = time.perf_counter()
    lists = as_lists(queries_table)
    prepare(lists, graph, EgtConfig(t=TEXT_THRESHOLD, p=100))()
    done = time.perf_counter()
    alone = seconds(prepare(lists, graph, EgtConfig(t=TEXT_THRESHOLD, p=100, threads=1)))
    print(
        f"{vertices:>9,} x k={k:<3} {queries:,} queries on {os.cpu_count()} cores: "
        f"symmetrize {built - start:.1f} s, traverse {done - built:.1f} s; 1 thread: "
        f"{1000 * alone / queries:.3f} ms a query   peak {peak_gib():.2f} GiB"
    )


def symmetric_graph(vertices: int, k: int, seed: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return an undirected graph with k neighbours everywhere: neighbours `[n, k]`, falling int weights.

    Vertex v is joined to v + d and v - d (around a circle) for k / 2 distances d, a third of them below 100,
    and all vertices are numbered anew at random. Weights are whole numbers, as counts of inliers.
    """
    random = np.random.default_rng(seed)
    near = random.choice(np.arange(1, 100), k // 6, replace=False)
    far = random.choice(np.arange(100, vertices // 2), k // 2 - k // 6, replace=False)
    distances = np.concatenate([near, far])
    scale = np.where(distances < 100, 9500, 6000)
    forward = (random.random((vertices, k // 2)) * scale).astype(np.int64) + 1
    place = np.arange(vertices)[:, None]
    ahead, behind = (place + distances) % vertices, (place - distances) % vertices
    weights = np.concatenate([forward, forward[behind, np.arange(k // 2)]], axis=1)
    neighbors = np.concatenate([ahead, behind], axis=1)
    order = np.argsort(-weights, axis=1, kind="stable")
    number = random.permutation(vertices)
    result = np.empty((vertices, k), np.int64), np.empty((vertices, k), np.int64)
    result[0][number] = number[np.take_along_axis(neighbors, order, axis=1)]
    result[1][number] = np.take_along_axis(weights, order, axis=1)
    return result


def write_text(path: Path, queries: int, index: tuple[NDArray[Any], NDArray[Any]]) -> None:
    """Write a graph in the EGT authors' format; each query has the neighbours of one vertex of its own."""
    with path.open("w") as file:
        for prefix, rows in (("q", queries), ("x", len(index[0]))):
            for row in range(rows):
                pairs = zip(index[0][row].tolist(), index[1][row].tolist(), strict=True)
                file.write(f"{prefix}{row}," + " ".join([f"x{u} {w}" for u, w in pairs]) + "\n")


def bench_text(vertices: int, k: int, queries: int, folder: Path) -> None:
    """Time `kedro egt` on one thread, and the EGT authors' program if there is one.

    The graph is undirected with lists of equal length: their program reads nothing else, and makes a directed
    graph undirected in a way of its own.
    """
    graph, output = folder / f"graph{vertices}.txt", folder / "ranking.txt"
    write_text(graph, queries, symmetric_graph(vertices, k, 1))
    command = [sys.executable, "-c", "from landmark_retrieval.cli import cli; cli()", "egt", str(graph)]
    command += [
        "--num-queries",
        str(queries),
        "--t",
        str(TEXT_THRESHOLD),
        "--output",
        str(output),
        "--threads",
        "1",
    ]
    times = []
    for _ in range(5):
        shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        times.append([float(n) for n in re.findall(r"(?:load|traverse): ([\d.]+)", shown)])
    load, query = (statistics.median(column) for column in zip(*times, strict=True))
    size = graph.stat().st_size / 2**20
    print(f"{vertices:>9,} x k={k:<3} kedro egt: load {load:.2f} s ({size:.0f} MiB), {query:.3f} ms a query")
    if "EGT_JAVA_CLASSPATH" in os.environ:
        bench_java(graph, output, k, queries, query)


def bench_java(graph: Path, ours: Path, k: int, queries: int, our_milliseconds: float) -> None:
    """Run the EGT authors' program on the same file."""
    output = ours.with_name("java.txt")
    command = [
        "java",
        "-Xmx16g",
        "-cp",
        os.environ["EGT_JAVA_CLASSPATH"],
        os.environ.get("EGT_JAVA_MAIN", "EGT"),
    ]
    command += ["-k", str(k), "-q", str(queries), "-p", "100", "-t", str(TEXT_THRESHOLD), "--time"]
    start = time.perf_counter()
    shown = subprocess.run(
        [*command, str(graph), str(output)], check=True, capture_output=True, text=True
    ).stdout
    total = time.perf_counter() - start
    found = re.search(r"per query \[([\d.]+)\] ms", shown)
    theirs = [line for line in output.read_text().splitlines() if line != "id,images"]
    same = sum(a == b for a, b in zip(theirs, ours.read_text().splitlines(), strict=True))
    milliseconds = float(found[1]) if found else float("nan")
    print(
        f"          EGT authors' program: {milliseconds:.3f} ms a query, "
        f"{milliseconds / our_milliseconds:.1f} times ours; {total:.1f} s; {same} of {queries} lines equal"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vertices", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--million", action="store_true", help="also 1,000,000 x k=100 with 10,000 queries")
    options = parser.parse_args()
    for vertices in options.vertices:
        for k in (50, 100):
            bench_arrays(vertices, k, options.queries)
    with tempfile.TemporaryDirectory() as folder:
        for vertices in options.vertices:
            bench_text(vertices, 50, min(options.queries, vertices), Path(folder))
    if options.million:
        bench_many_queries(1_000_000, 100, 10_000)


if __name__ == "__main__":
    main()

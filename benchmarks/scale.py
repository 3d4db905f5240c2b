"""A synthetic replica of the challenge at a fraction of its size, stage by stage: seconds, memory, bytes.

    python -m benchmarks.scale [--fraction 20] [--dimensions 2048] [--memory-gib 4]

The full job has 117,577 queries, 761,757 index images, and 4,132,914 train images of 203,094 landmarks.
Here all four are divided by `--fraction`. Descriptors are noise around one centre a landmark, float16 in
memory-mapped files; landmarks differ in size as 1/rank; two thirds of the queries show none. RANSAC is not
run: candidates of the same landmark get inliers, others none (`python -m benchmarks.verification` times
real pairs). Everything else is the code of the pipelines. mAP is printed to show that the stages did their
work; it says nothing about photos.
"""

from __future__ import annotations

import argparse
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from landmark_retrieval.evaluation import average_precision
from landmark_retrieval.graph import (
    EgtConfig,
    LabelBridgeConfig,
    build_label_bridge,
    explore_exploit,
    explore_exploit_with_labels,
    label_hubs,
    symmetrize,
)
from landmark_retrieval.knn import KnnConfig, KnnGraph, NeighborLists, build_knn_graph, search
from landmark_retrieval.retrieval.stages import Verified, expand, rerank
from landmark_retrieval.verification import ExpansionConfig, candidate_pairs

QUERIES, INDEX, TRAIN, LANDMARKS = 117_577, 761_757, 4_132_914, 203_094
"""Shapes of the challenge."""

CANDIDATES, FLOOR = 10, 15


def memory_gib(name: str) -> float:
    """Return `VmRSS` or `VmHWM` (the peak) of this process."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 2**20 if found else float("nan")


@contextmanager
def stage(name: str, operations: float = 0.0) -> Iterator[None]:
    """Print what a stage takes; `operations` are the multiplications and additions of its products."""
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before, start = memory_gib("VmRSS"), time.perf_counter()
    yield
    seconds = time.perf_counter() - start
    rate = f"{operations / seconds / 1e9:7.0f} GFLOP/s" if operations else ""
    print(f"  {name:<38} {seconds:8.1f} s  peak +{memory_gib('VmHWM') - before:6.2f} GiB {rate}", flush=True)


def draw_landmarks(count: int, landmarks: int, seed: int) -> NDArray[np.int64]:
    """Return a landmark for each image; the landmark of rank r is drawn in proportion to 1/(r + 10)."""
    weights = 1.0 / (np.arange(landmarks) + 10)
    random = np.random.default_rng(seed)
    return random.choice(landmarks, count, p=weights / weights.sum()).astype(np.int64)


def write_descriptors(path: Path, landmarks: NDArray[np.int64], dimensions: int, seed: int) -> NDArray[Any]:
    """Write noisy copies of the landmarks' centres, -1 being none, as a memory-mapped float16 file."""
    matrix = np.lib.format.open_memmap(path, "w+", np.float16, (len(landmarks), dimensions))
    random = np.random.default_rng(seed)
    for start in range(0, len(landmarks), 4096):
        part = landmarks[start : start + 4096]
        rows = random.standard_normal((len(part), dimensions), dtype=np.float32)
        for row, landmark in zip(rows, part, strict=True):
            if landmark >= 0:
                centre = np.random.default_rng(landmark).standard_normal(dimensions, dtype=np.float32)
                row *= 1.1 + 0.9 * random.random()
                row += centre
        matrix[start : start + 4096] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    matrix.flush()
    return np.load(path, mmap_mode="r")


def pretend_to_verify(graph: KnnGraph, landmarks: NDArray[np.int64]) -> pd.DataFrame:
    """Return candidate pairs with inliers where both images show the same landmark."""
    pairs = candidate_pairs(graph, CANDIDATES)
    a, b = pairs[:, 0], pairs[:, 1]
    same = (landmarks[a] == landmarks[b]) & (landmarks[a] >= 0)
    inliers = np.where(same, np.random.default_rng(0).integers(8, 100, len(pairs)), 4)
    return pd.DataFrame({"row_a": a, "row_b": b, "inliers": inliers.astype(np.int32)})


def run(fraction: float, dimensions: int, budget: float, folder: Path) -> None:
    """Run every stage on the replica."""
    queries, index, train, landmarks = (round(size / fraction) for size in (QUERIES, INDEX, TRAIN, LANDMARKS))
    print(
        f"synthetic, 1/{fraction:g}: {queries:,} queries, {index:,} index and {train:,} train images of "
        f"{landmarks:,} landmarks, {dimensions} dimensions, memory_gib {budget:g}"
    )
    of_queries = draw_landmarks(queries, landmarks, 0)
    of_queries[np.random.default_rng(3).random(queries) < 2 / 3] = -1
    of_index, of_train = draw_landmarks(index, landmarks, 1), draw_landmarks(train, landmarks, 2)
    with stage("write synthetic descriptors"):
        q, n, t = (
            write_descriptors(folder / f"{name}.npy", labels, dimensions, seed)
            for seed, (name, labels) in enumerate(
                {"query": of_queries, "index": of_index, "train": of_train}.items()
            )
        )
    knn = KnnConfig(k=100, memory_gib=budget, storage="float16")
    products = 2.0 * (queries + index) * dimensions
    with stage("k-NN graph", products * index):
        graph = build_knn_graph(q, n, knn)
    q2, n2, second = expand_and_rerank(q, n, graph, np.concatenate([of_queries, of_index]), knn)
    with stage("search in the train images", products * train):
        near = search(np.concatenate([q2, n2]), t, knn.model_copy(update={"k": 3}))
    rankings = (graph.queries.neighbors, second.queries.neighbors, *traverse(second, near, of_train, q2, n2))
    print_scores(rankings, of_queries, of_index, landmarks)
    print(
        f"  on disk: {sum(file.stat().st_size for file in folder.iterdir()) / 2**30:.2f} GiB of descriptors"
    )


def expand_and_rerank(
    q: NDArray[Any], n: NDArray[Any], graph: KnnGraph, landmarks: NDArray[np.int64], knn: KnnConfig
) -> tuple[NDArray[Any], NDArray[Any], KnnGraph]:
    """Run the stages of QE-SV; return the expanded descriptors of both sides and their graph, re-ranked."""
    queries, index, dimensions = len(q), len(n), q.shape[1]
    with stage("expansion of both sides"):
        pairs = pretend_to_verify(graph, landmarks)
        verified = Verified(pairs, queries, CANDIDATES, (FLOOR, FLOOR))
        q2 = np.asarray(expand(q, n, graph.queries, verified, ExpansionConfig()))
        n2 = np.asarray(expand(n, n, graph.index, verified, ExpansionConfig(), of_index=True))
    with stage("k-NN graph of expanded descriptors", 2.0 * (queries + index) * dimensions * index):
        second = build_knn_graph(q2, n2, knn)
    with stage("re-ranking"):
        second = KnnGraph(rerank(second.queries, verified), rerank(second.index, verified, of_index=True))
    return q2, n2, second


def traverse(
    graph: KnnGraph, near: NeighborLists, of_train: NDArray[np.int64], q: NDArray[Any], n: NDArray[Any]
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Run the stages of EGT; return its rankings without and with label bridges."""
    queries = len(q)
    with stage("symmetrisation"):
        edges = symmetrize(graph.index)
    options, bridging = EgtConfig(), LabelBridgeConfig()
    with stage("EGT"):
        plain = explore_exploit(graph.queries, edges, options)
    with stage("label bridge"):
        bridge = build_label_bridge(near[:queries], near[queries:], of_train, bridging)
    with stage("semi-supervised EGT"):
        bridged = explore_exploit_with_labels(
            graph.queries, edges, label_hubs(bridge, bridging, n), bridge.queries, options, q
        )
    return plain.ranking, bridged.ranking


def print_scores(
    rankings: Sequence[NDArray[np.int32]],
    of_queries: NDArray[np.int64],
    of_index: NDArray[np.int64],
    landmarks: int,
) -> None:
    """Print mAP@100 of each ranking."""
    members = np.argsort(of_index, kind="stable")
    first = np.searchsorted(of_index[members], np.arange(landmarks + 1))
    relevant = [members[first[x] : first[x + 1]] if x >= 0 else members[:0] for x in of_queries]
    means = [float(np.nanmean(average_precision(ranking, relevant))) for ranking in rankings]
    scores = [f"{mean:.3f}" for mean in means]
    print(f"  mAP@100 of the four variants on this noise: {', '.join(scores)}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fraction", type=float, default=20)
    parser.add_argument("--dimensions", type=int, default=2048)
    parser.add_argument("--memory-gib", type=float, default=4)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        run(options.fraction, options.dimensions, options.memory_gib, folder)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()

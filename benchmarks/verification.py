"""Spatial verification: pairs a second, where the time goes, and against a straightforward OpenCV loop.

    python -m benchmarks.verification FEATURES [--pairs 400]

FEATURES is the folder of a local-feature store (`local_features` in the catalog). Pairs are drawn at random
with a fixed seed, half of them among neighbouring rows, which in a data set sorted by landmark are often
related. Everything but the last part runs on one core.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import cv2
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from landmark_retrieval.io import ArrayBundleDataset
from landmark_retrieval.local_features import LocalFeatureStore
from landmark_retrieval.runtime.sharding import ExecutorConfig
from landmark_retrieval.runtime.store import Store
from landmark_retrieval.verification import VerificationConfig, verify_pairs
from landmark_retrieval.verification.matching import match
from landmark_retrieval.verification.one_pair import pair_seed, verify_pair

Pairs = Sequence[tuple[Any, Any, int]]


def draw_pairs(rows: int, count: int) -> NDArray[np.int64]:
    random = np.random.default_rng(0)
    first = random.integers(0, rows, 20 * count)
    near = first + random.integers(1, 6, len(first))
    second = np.where(np.arange(len(first)) % 2, near, random.integers(0, rows, len(first)))
    pairs = np.stack([np.minimum(first, second), np.maximum(first, second)], axis=1)
    pairs = pairs[(pairs[:, 0] != pairs[:, 1]) & (pairs[:, 1] < rows)]
    return np.unique(pairs[np.sort(np.unique(pairs, axis=0, return_index=True)[1])][:count], axis=0)


def opencv_loop(a: Any, b: Any, matcher: Any) -> int:
    """Verify one pair the way tutorials do."""
    found = matcher.match(a.descriptors, b.descriptors)
    if len(found) < 4:
        return 0
    points_a = np.array([a.keypoints[one.queryIdx] for one in found])
    points_b = np.array([b.keypoints[one.trainIdx] for one in found])
    homography, mask = cv2.findHomography(points_a, points_b, cv2.RANSAC, 4.0)
    return 0 if homography is None else int(mask.sum())


def seconds_per_pair(function: Callable[[Any, Any, int], Any], pairs: Pairs, repeats: int = 3) -> float:
    function(*pairs[0])
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        for pair in pairs:
            function(*pair)
        times.append((time.perf_counter() - start) / len(pairs))
    return statistics.median(times)


def compare_on_one_core(
    store: LocalFeatureStore, rows: NDArray[np.int64], config: VerificationConfig
) -> None:
    half = [(store.get(int(a)), store.get(int(b)), pair_seed(0, f"{a} {b}")) for a, b in rows.tolist()]
    whole = [
        tuple(type(f)(f.keypoints, np.float32(f.descriptors), f.scores, f.scales) for f in pair[:2])
        for pair in half
    ]
    matcher = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True)
    cv2.setNumThreads(1)
    loop = seconds_per_pair(lambda a, b, _: opencv_loop(a, b, matcher), [(*pair, 0) for pair in whole], 1)
    full = seconds_per_pair(lambda a, b, seed: verify_pair(a, b, config, seed), half)
    matching = seconds_per_pair(lambda a, b, _: match(a, b, config.matching), half)
    verified = np.array([verify_pair(*pair[:2], config, pair[2]).inliers for pair in half])
    floor = config.min_inliers or 1
    print(f"OpenCV loop (BFMatcher cross-check, RANSAC)  {1e3 * loop:8.2f} ms a pair {1 / loop:8.0f} pairs/s")
    print(f"this package                                 {1e3 * full:8.2f} ms a pair {1 / full:8.0f} pairs/s")
    print(f"  of which matching                          {1e3 * matching:8.2f} ms")
    print(f"  of which RANSAC                            {1e3 * (full - matching):8.2f} ms")
    print(f"speed-up over the loop: {loop / full:.1f}")
    print(f"pairs with at least {floor} inliers: {np.count_nonzero(verified >= floor)} of {len(half)}")


def scale_over_processes(
    store: LocalFeatureStore, rows: NDArray[np.int64], config: VerificationConfig
) -> None:
    seconds = {}
    for workers in (1, 2):
        executor = ExecutorConfig(backend="loky", workers=workers)
        with tempfile.TemporaryDirectory() as folder:
            # The first plan starts the processes and compiles, the second is timed. Its pairs lie in several
            # shards, as a single one would be computed in this process.
            few = rows[:: max(1, len(rows) // 32)]
            verify_pairs(few, store, Store(f"{folder}/warm"), config, executor)
            start = time.perf_counter()
            verify_pairs(rows, store, Store(f"{folder}/timed"), config, executor)
            seconds[workers] = time.perf_counter() - start
        print(f"{workers} processes, end to end: {len(rows) / seconds[workers]:.0f} pairs/s")
    print(f"1 -> 2 processes: {seconds[1] / seconds[2]:.2f} times as fast")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("features", help="folder of a run's artifact `local_features`")
    parser.add_argument("--pairs", type=int, default=400)
    arguments = parser.parse_args()
    entry = ArrayBundleDataset(
        filepath=arguments.features, bundle="landmark_retrieval.local_features.StoredFeatures"
    )
    store = LocalFeatureStore(entry.load())
    images = store.images
    rows = draw_pairs(images, arguments.pairs)
    config = VerificationConfig().resolve(store.extractor)
    print(f"{images} images, {len(rows)} pairs, floor {config.min_inliers}, {config.matching}")
    with threadpool_limits(1):
        compare_on_one_core(store, rows, config)
    scale_over_processes(store, np.concatenate([rows, draw_pairs(images, 4 * len(rows))]), config)


if __name__ == "__main__":
    main()

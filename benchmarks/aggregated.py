"""Aggregation of local features at scale: seconds and memory, on synthetic features.

    python -m benchmarks.aggregated [--photos 100000] [--features 1000] [--count 2000]

The features are random unit vectors, taken for every photo from a place of its own in a pool, so that what
is measured is the codebook and the aggregation and not a disk. With `--count` below `--photos` the
aggregation is timed on so many photos and the time of all is extrapolated, and said to be.
"""

from __future__ import annotations

import argparse
import resource
import time
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray

from landmark_retrieval.descriptors.aggregated import (
    AggregatedConfig,
    aggregate_rows,
    learn_codebook,
    learning_rows,
)

POOL = 1 << 20
"""Features in the pool, 256 MiB of 128 numbers in float16."""


class SyntheticFeatures:
    """Features of photos that do not exist: consecutive ones of a pool."""

    dimensions = 128

    def __init__(self, photos: int, features: int) -> None:
        self.images, self.count = photos, features
        random = np.random.default_rng(0)
        self.pool = np.empty((POOL, self.dimensions), np.float16)
        centres = random.standard_normal((4096, self.dimensions), np.float32)
        for start in range(0, POOL, 4096):
            x = centres + random.standard_normal(centres.shape, np.float32)
            self.pool[start : start + 4096] = x / np.linalg.norm(x, axis=1, keepdims=True)

    def get(self, row: int) -> SimpleNamespace:
        """Return what aggregation reads of the features of a photo."""
        start = int(np.random.default_rng(row).integers(POOL - self.count))
        descriptors: NDArray[np.float16] = self.pool[start : start + self.count]
        return SimpleNamespace(descriptors=descriptors)


def peak() -> float:
    """Return the most memory that this process had, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--photos", type=int, default=100_000)
    parser.add_argument("--features", type=int, default=1000)
    parser.add_argument("--count", type=int, default=2000, help="photos that are aggregated")
    parser.add_argument("--dimensions", type=int, default=2048)
    arguments = parser.parse_args()
    features = SyntheticFeatures(arguments.photos, arguments.features)
    config = AggregatedConfig(dimensions=arguments.dimensions)
    print(f"before: {peak():.2f} GiB, the pool of features among them", flush=True)
    start = time.perf_counter()
    rows = learning_rows(slice(0, arguments.photos), config)
    codebook = learn_codebook(features, rows, config)  # type: ignore[arg-type]
    seconds = time.perf_counter() - start
    print(
        f"codebook of {len(codebook.words)} words and {codebook.dimensions} axes on {len(rows)} photos: "
        f"{seconds:.0f} s, peak {peak():.2f} GiB",
        flush=True,
    )
    start = time.perf_counter()
    count = min(arguments.count, arguments.photos)
    for first in range(0, count, 1024):
        aggregate_rows(features, codebook, slice(first, min(first + 1024, count)))  # type: ignore[arg-type]
    seconds = time.perf_counter() - start
    print(
        f"aggregation of {count} photos: {seconds:.0f} s, {1000 * seconds / count:.1f} ms a photo, ", end=""
    )
    print(f"peak {peak():.2f} GiB")
    if count < arguments.photos:
        minutes = seconds / count * arguments.photos / 60
        print(f"extrapolated to {arguments.photos} photos: {minutes:.0f} minutes")


if __name__ == "__main__":
    main()

"""Pairs that are verified together: which ones, and how cores, or a GPU and cores, do so."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.process_executor import TerminatedWorkerError
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import reverse_cuthill_mckee
from threadpoolctl import threadpool_limits

from landmark_retrieval.runtime.store_files import Arrays
from landmark_retrieval.verification.device_matching import BATCH, match_many, matching_device
from landmark_retrieval.verification.matching import match
from landmark_retrieval.verification.one_pair import MatchedPoints, VerifiedPair, pair_seed
from landmark_retrieval.verification.ransac import RansacConfig

if TYPE_CHECKING:
    from landmark_retrieval.local_features.store import FeaturesOfImages
    from landmark_retrieval.verification.pairs import VerificationConfig

POOL_PAIRS = 2000
"""Pairs of a shard from which other processes estimate homographies beside a GPU: to start sixteen of them
takes as long as to estimate so many in this one."""

WAITING = 4
"""Batches of pairs that wait for each process of RANSAC at most; bounds memory."""


def locality_order(pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return an order in which pairs that share photos stand near each other.

    Photos are numbered so that those of a pair have near numbers (Cuthill and McKee: "Reducing the bandwidth
    of sparse symmetric matrices", 1969, in reverse), and pairs follow the numbers of their photos.

    Args:
        pairs: int64 `[m, 2]` table rows.

    Returns:
        int64 `[m]` positions of the pairs, each once.
    """
    if len(pairs) == 0:
        return np.zeros(0, np.int64)
    rows, photos = np.unique(pairs, return_inverse=True)
    first, second = photos.reshape(pairs.shape).T
    sides = np.concatenate([first, second]), np.concatenate([second, first])
    graph = coo_array((np.ones(len(sides[0]), np.int8), sides), (len(rows), len(rows))).tocsr()
    number = np.empty(len(rows), np.int64)
    number[reverse_cuthill_mckee(graph, symmetric_mode=True)] = np.arange(len(rows))
    low, high = np.minimum(number[first], number[second]), np.maximum(number[first], number[second])
    return np.lexsort((high, low))


@dataclass(frozen=True)
class VerifyPairs:
    """The computation of one shard; called without arguments in any process.

    Attributes:
        pairs: int64 `[m, 2]` table rows, each pair in the alphabetical order of its keys.
        keys: str `[m]` of `pair_keys`.
        features: of all images that occur.
        config: parameters without open values.
        processes: that estimate homographies while this one matches the next pairs; 0 for none.
    """

    pairs: NDArray[np.int64]
    keys: NDArray[np.str_]
    features: FeaturesOfImages
    config: VerificationConfig
    processes: int = 0

    def __call__(self) -> Arrays:
        """Return `matches` int32 `[m]`, `inliers` int32 `[m]`, `homographies` float32 `[m, 3, 3]`."""
        with threadpool_limits(1):
            found = list(estimate(self._matched(), self.config.ransac, self.processes))
        return {
            "matches": np.array([one.matches for one in found], np.int32),
            "inliers": np.array([one.inliers for one in found], np.int32),
            "homographies": np.array([one.homography for one in found], np.float32).reshape(-1, 3, 3),
        }

    def _matched(self) -> Iterator[list[MatchedPoints]]:
        """Yield the tentative correspondences of all pairs, a batch at a time."""
        device = matching_device(self.config.matching.device)
        for start in range(0, len(self.pairs), BATCH):
            rows, keys = self.pairs[start : start + BATCH].tolist(), self.keys[start : start + BATCH].tolist()
            photos = [(self.features.get(a), self.features.get(b)) for a, b in rows]
            if device is None:
                matched = [match(a, b, self.config.matching) for a, b in photos]
            else:
                matched = match_many(photos, self.config.matching, device)
            seeds = [pair_seed(self.config.seed, key) for key in keys]
            yield [
                MatchedPoints.of(a, b, numbers, seed)
                for (a, b), numbers, seed in zip(photos, matched, seeds, strict=True)
            ]


def estimate(
    batches: Iterator[list[MatchedPoints]], config: RansacConfig, processes: int
) -> Iterator[VerifiedPair]:
    """Estimate homographies, in the order of the pairs.

    Args:
        batches: tentative correspondences of pairs.
        config: parameters.
        processes: that do so while the next batch is made; 0 does it in this process.
    """
    if processes == 0:
        for batch in batches:
            yield from verify_points(batch, config)
        return
    pool, waiting = ransac_pool(processes), deque[Future[list[VerifiedPair]]]()
    try:
        for batch in batches:
            waiting.append(pool.submit(verify_points, batch, config))
            if len(waiting) > WAITING * processes:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    except TerminatedWorkerError:
        ransac_pool.cache_clear()  # a pool that has lost a process takes no more work
        raise
    finally:
        for future in waiting:
            future.cancel()


@lru_cache(maxsize=1)
def ransac_pool(processes: int) -> Any:
    """Return processes for RANSAC, the same ones for all shards; those that rest for a minute end.

    RANSAC holds the interpreter's lock, so that threads would not do.
    """
    return ProcessPoolExecutor(processes, timeout=60)


def verify_points(batch: Sequence[MatchedPoints], config: RansacConfig) -> list[VerifiedPair]:
    """Return what is known of pairs when their homographies are estimated."""
    return [points.verified(config) for points in batch]

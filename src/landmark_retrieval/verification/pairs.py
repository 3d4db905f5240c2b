"""Spatial verification of candidate pairs of images, in resumable shards."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from landmark_retrieval.configuration import Configuration, digest
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.knn import KnnGraph
from landmark_retrieval.runtime.sharding import Arrays, ExecutorConfig, ShardPlan, ShardStore, ShardTask
from landmark_retrieval.verification.calibration import CalibrationConfig
from landmark_retrieval.verification.device_matching import match_many, matching_device
from landmark_retrieval.verification.floors import default_floor
from landmark_retrieval.verification.matching import MatchingConfig, match
from landmark_retrieval.verification.ransac import (
    NO_MODEL,
    REFERENCE_SIDE,
    RansacConfig,
    available_method,
    estimate_homography,
)

if TYPE_CHECKING:
    from landmark_retrieval.local_features.base import LocalFeatures
    from landmark_retrieval.local_features.store import LocalFeatureStore

VERSION = 1
"""Raised when the same parameters give other results; part of every fingerprint."""

HOMOGRAPHY_COLUMNS = [f"h{i}{j}" for i in (1, 2, 3) for j in (1, 2, 3)]


class VerificationConfig(Configuration):
    """How candidate pairs are verified.

    Attributes:
        candidates: neighbours of each image that are compared with it and re-ranked (the paper: 10).
        matching: tentative correspondences.
        ransac: homography estimation.
        min_inliers: inliers from which a pair counts as verified; None calibrates it on the pairs that were
            tried, with too few of them the extractor's measured value (`floors.MIN_INLIERS`).
        calibration: what evidence is asked of a pair where `min_inliers` is None.
        seed: seed of all sampling; each pair derives its own from it.
        shard_size: images whose pairs make one shard, the unit of resuming.
    """

    candidates: int = 10
    matching: MatchingConfig = MatchingConfig()
    ransac: RansacConfig = RansacConfig()
    min_inliers: int | None = None
    calibration: CalibrationConfig = CalibrationConfig()
    seed: int = 0
    shard_size: int = 64

    def resolve(self, extractor: str | None) -> VerificationConfig:
        """Return the configuration with every open value filled in for an extractor."""
        floor = self.min_inliers
        if floor is None:
            floor = default_floor(extractor, available_method(self.ransac.method))
        return self.model_copy(update={"matching": self.matching.resolve(extractor), "min_inliers": floor})


def candidate_pairs(graph: KnnGraph, candidates: int, database_side: bool = True) -> NDArray[np.int64]:
    """Return the pairs of images to verify, each unordered pair once.

    Args:
        graph: nearest neighbours of q queries and n index images.
        candidates: leading neighbours that count.
        database_side: whether those of the index images are pairs, too.

    Returns:
        int64 `[m, 2]` table rows (query i is row i, index j is row q + j), first less than second, ascending.
    """
    queries = len(graph.queries)
    total = queries + len(graph.index)
    keys = []
    for first, lists in ((0, graph.queries), (queries, graph.index[slice(None if database_side else 0)])):
        top = lists.neighbors[:, :candidates].astype(np.int64)
        sources = np.broadcast_to(np.arange(first, first + len(top))[:, None], top.shape)
        there = top >= 0
        source, target = sources[there], top[there] + queries
        low, high = np.minimum(source, target), np.maximum(source, target)
        keys.append((low * total + high)[low != high])
    unique = np.unique(np.concatenate(keys))
    return np.stack([unique // max(total, 1), unique % max(total, 1)], axis=1)


def plan_verification(
    pairs: NDArray[np.int64],
    features: LocalFeatureStore,
    config: VerificationConfig,
    executor: ExecutorConfig | None = None,
) -> ShardPlan:
    """Plan the verification of pairs.

    Shards hold the pairs of `shard_size` consecutive first images, so that a worker reads the features of
    these once, and so that other pairs elsewhere do not change them. The content of a shard depends on its
    pairs, the features of their images and the parameters, not on the number of workers.

    Args:
        pairs: int64 `[m, 2]` table rows from `candidate_pairs`.
        features: local features of all images that occur.
        config: parameters.
        executor: where shards are computed; default: in this process.

    Returns:
        A plan whose shards hold `pairs` int64 `[m, 2]`, `matches` int32 `[m]` (tentative correspondences),
        `inliers` int32 `[m]` and `homographies` float32 `[m, 3, 3]` (first image to second, pixels of the
        original images, all zeros without a model).
    """
    extractor = features.manifest()["metadata"].get("extractor")
    resolved = config.resolve(extractor)
    method = available_method(resolved.ransac.method)
    options = resolved.model_dump(mode="json", include={"matching", "ransac", "min_inliers", "seed"})
    parameters = digest(VERSION, method, options)
    ordered = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    return ShardPlan(
        description="spatial verification",
        tasks=_tasks(ordered, features, resolved, parameters),
        executor=executor or ExecutorConfig(),
        metadata={
            "extractor": extractor,
            "pairs": len(ordered),
            "min_inliers": resolved.min_inliers,
            "ratio": resolved.matching.ratio,
            "method": method,
        },
        parameters=options,
    )


@dataclass(frozen=True)
class VerifyPairs:
    """The computation of one shard; called without arguments in any process."""

    pairs: NDArray[np.int64]
    features: LocalFeatureStore
    config: VerificationConfig

    def __call__(self) -> Arrays:
        """Return the arrays of the shard (see `plan_verification`)."""
        matches = np.zeros(len(self.pairs), np.int32)
        inliers = np.zeros(len(self.pairs), np.int32)
        homographies = np.zeros((len(self.pairs), 3, 3), np.float32)
        device = matching_device(self.config.matching.device)
        with threadpool_limits(1):
            for row_a, start, stop in _runs(self.pairs[:, 0]):
                a = self.features.get(row_a)
                others = [self.features.get(row_b) for row_b in self.pairs[start:stop, 1].tolist()]
                matched: Sequence[NDArray[np.int32] | None] = [None] * len(others)
                if device is not None:
                    matched = match_many(a, others, self.config.matching, device)
                for i, b, pairs in zip(range(start, stop), others, matched, strict=True):
                    seed = pair_seed(self.config.seed, row_a, int(self.pairs[i, 1]))
                    result = verify_pair(a, b, self.config, seed, pairs)
                    matches[i], inliers[i], homographies[i] = (
                        result.matches,
                        result.inliers,
                        result.homography,
                    )
        return {"pairs": self.pairs, "matches": matches, "inliers": inliers, "homographies": homographies}


@dataclass(frozen=True)
class VerifiedPair:
    """What is known of one pair.

    Attributes:
        matches: number of tentative correspondences.
        inliers: number of them that agree with the homography.
        homography: `[3, 3]` from the first image to the second, pixels of the original images; zeros without
            a model.
    """

    matches: int
    inliers: int
    homography: NDArray[np.float64]


def verify_pair(
    a: LocalFeatures,
    b: LocalFeatures,
    config: VerificationConfig,
    seed: int,
    matched: NDArray[np.int32] | None = None,
) -> VerifiedPair:
    """Match two images and estimate the homography between them.

    Args:
        a: features of the first image.
        b: features of the second image.
        config: parameters without open values.
        seed: non-negative.
        matched: int32 `[m, 2]` matched features of both where they are known; None matches here.
    """
    matched, homography, inliers = correspondences(a, b, config, seed, matched)
    return VerifiedPair(len(matched), int(inliers.sum()), homography)


def correspondences(
    a: LocalFeatures,
    b: LocalFeatures,
    config: VerificationConfig,
    seed: int,
    matched: NDArray[np.int32] | None = None,
) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.bool_]]:
    """Return what `verify_pair` counts; arguments as there.

    Returns:
        int32 `[m, 2]` matched features of both images, the homography `[3, 3]` between their pixels (all
        zeros without a model), and which of the matches are its inliers, bool `[m]`.
    """
    if matched is None:
        matched = match(a, b, config.matching)
    if len(matched) == 0:
        return matched, NO_MODEL, np.zeros(0, np.bool_)
    scale_a = REFERENCE_SIDE / long_side(a)
    scale_b = REFERENCE_SIDE / long_side(b)
    homography, inliers = estimate_homography(
        a.keypoints[matched[:, 0]].astype(np.float64) * scale_a,
        b.keypoints[matched[:, 1]].astype(np.float64) * scale_b,
        config.ransac,
        seed,
        config.min_inliers or 0,
    )
    if not inliers.any():
        return matched, NO_MODEL, inliers
    homography = np.diag([1 / scale_b, 1 / scale_b, 1]) @ homography @ np.diag([scale_a, scale_a, 1])
    return matched, homography / homography[2, 2], inliers


def long_side(features: LocalFeatures) -> float:
    """Return the longer side of the image in pixels, or where it is not known of what the keypoints cover."""
    return max(1.0, float(max(features.size)) or float(features.keypoints.max(initial=0)))


def pair_seed(seed: int, row_a: int, row_b: int) -> int:
    """Return a seed below 2³¹ for one pair, independent of what else is compared."""
    return int(np.random.SeedSequence((seed, row_a, row_b)).generate_state(1)[0] >> 1)


def collect_pairs(store: ShardStore) -> pd.DataFrame:
    """Read all pairs that were compared.

    Args:
        store: what a plan of `plan_verification` has written.

    Returns:
        One row a pair, ordered by rows: `row_a`, `row_b` int64 (table rows, row_a < row_b), `matches`,
        `inliers` int32, and `h11` ... `h33` float32, the homography from a to b (zeros without a model).
    """
    shards = list(store)
    frame = {
        "row_a": _concatenate([shard["pairs"][:, 0] for shard in shards], np.int64),
        "row_b": _concatenate([shard["pairs"][:, 1] for shard in shards], np.int64),
        "matches": _concatenate([shard["matches"] for shard in shards], np.int32),
        "inliers": _concatenate([shard["inliers"] for shard in shards], np.int32),
    }
    for number, column in enumerate(HOMOGRAPHY_COLUMNS):
        frame[column] = _concatenate(
            [shard["homographies"].reshape(-1, 9)[:, number] for shard in shards], np.float32
        )
    return pd.DataFrame(frame)


def floor_of(store: ShardStore) -> int:
    """Return the number of inliers from which a pair of this store counts as verified.

    Raises:
        LandmarkRetrievalError: the store holds something else than a plan of `plan_verification` writes.
    """
    metadata = store.manifest()["metadata"]
    if "min_inliers" not in metadata:
        raise LandmarkRetrievalError(f"{store.root}: not a spatial verification; run spatial_verification")
    return int(metadata["min_inliers"])


def _tasks(
    ordered: NDArray[np.int64], features: LocalFeatureStore, config: VerificationConfig, parameters: str
) -> list[ShardTask]:
    """Return the shards of pairs in ascending order; `parameters` is the digest of what they depend on."""
    tasks = []
    for bucket, start, stop in _runs(ordered[:, 0] // config.shard_size):
        block = ordered[start:stop]
        inputs = sorted({features.fingerprint_of(int(row)) for row in np.unique(block)})
        tasks.append(
            ShardTask(
                key=f"pairs-{bucket:07d}",
                fingerprint=digest(parameters, hashlib.sha256(block.tobytes()).hexdigest(), inputs),
                compute=VerifyPairs(block, features, config),
            )
        )
    return tasks


def _runs(values: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """Return (value, start, stop) for each run of equal values."""
    if len(values) == 0:
        return []
    starts = np.concatenate([[0], np.flatnonzero(np.diff(values)) + 1])
    stops = np.append(starts[1:], len(values))
    return [(int(values[start]), int(start), int(stop)) for start, stop in zip(starts, stops, strict=True)]


def _concatenate(parts: Sequence[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.zeros(0, dtype)

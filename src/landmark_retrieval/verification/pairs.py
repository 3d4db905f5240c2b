"""Spatial verification of candidate pairs of images, where the store does not hold them yet.

A pair is kept by what its two photos are kept by, in alphabetical order, and it is matched and estimated in
that order with a seed made of both. So a result does not depend on rows, on which photo is the query, or on
what else is compared.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, field_validator

from landmark_retrieval.configuration import Configuration, Seed, ShardSize, unknown_option
from landmark_retrieval.knn import KnnGraph
from landmark_retrieval.runtime.sharding import ExecutorConfig
from landmark_retrieval.runtime.store import Request, Store
from landmark_retrieval.runtime.threads import thread_count
from landmark_retrieval.verification.calibration import CalibrationConfig
from landmark_retrieval.verification.candidates import AGGREGATED, BLEND, START
from landmark_retrieval.verification.device_matching import matching_device
from landmark_retrieval.verification.floors import default_floor
from landmark_retrieval.verification.matching import MatchingConfig
from landmark_retrieval.verification.ransac import SAMPLE, RansacConfig, available_method
from landmark_retrieval.verification.shards import POOL_PAIRS, VerifyPairs, locality_order

if TYPE_CHECKING:
    from landmark_retrieval.local_features.store import LocalFeatureStore

logger = logging.getLogger(__name__)

VERSION = 2
"""Raised when the same parameters give other results."""

KIND = "pairs"
"""Of the namespaces in the store."""

HOMOGRAPHY_COLUMNS = [f"h{i}{j}" for i in (1, 2, 3) for j in (1, 2, 3)]


MOST = 1_000_000
"""Photos that an image may be compared with."""


class VerificationConfig(Configuration):
    """How candidate pairs are verified.

    Attributes:
        candidates: which photos are compared with each image. `auto`: the leading ten of every list
            (neighbours by the blend, and by aggregated local features), and more of those that still find. A
            mapping of lists to numbers: so many of each. A number: so many neighbours by the blend alone, and
            only these are re-ranked (the paper: 10).
        turns: whether photos without a verified partner are tried turned by 90, 180 and 270 degrees.
        pairs_per_photo: pairs that `auto` may try in all, for each photo of the table.
        matching: tentative correspondences.
        ransac: homography estimation.
        min_inliers: inliers from which a pair counts as verified; None calibrates it on the pairs that were
            tried, with too few of them the extractor's measured value (`floors.MIN_INLIERS`).
        calibration: what evidence is asked of a pair where `min_inliers` is None.
        seed: seed of all sampling; each pair derives its own from it.
        shard_size: pairs that make one shard at most, the unit of resuming; fewer where workers would idle.
    """

    candidates: (
        Literal["auto"]
        | Annotated[int, Field(ge=1, le=MOST)]
        | dict[str, Annotated[int, Field(ge=0, le=MOST)]]
    ) = "auto"
    turns: bool = True
    pairs_per_photo: float = Field(default=20.0, ge=0, le=MOST)
    matching: MatchingConfig = MatchingConfig()
    ransac: RansacConfig = RansacConfig()
    min_inliers: int | None = Field(default=None, ge=SAMPLE, le=1_000_000)
    calibration: CalibrationConfig = CalibrationConfig()
    seed: Seed = 0
    shard_size: ShardSize = 4096

    @field_validator("candidates")
    @classmethod
    def _lists_exist(cls, candidates: Any) -> Any:
        for name in candidates if isinstance(candidates, dict) else ():
            if name not in (BLEND, AGGREGATED):
                raise ValueError(unknown_option(name, [BLEND, AGGREGATED], "list"))
        return candidates

    def resolve(self, extractor: str | None) -> VerificationConfig:
        """Return the configuration with every open value filled in for an extractor."""
        floor = self.min_inliers
        if floor is None:
            floor = default_floor(extractor, available_method(self.ransac.method))
        matching, ransac = self.matching.resolve(extractor), self.ransac.resolve(extractor)
        return self.model_copy(update={"matching": matching, "ransac": ransac, "min_inliers": floor})

    def count_of(self, name: str) -> int:
        """Return how many leading photos of a list are tried in any case."""
        if self.candidates == "auto":
            return START
        if isinstance(self.candidates, int):
            return self.candidates if name == BLEND else 0
        return self.candidates.get(name, 0)

    @property
    def reach(self) -> int | None:
        """Leading neighbours that are re-ranked; None for all, where several lists propose photos."""
        return self.candidates if isinstance(self.candidates, int) else None

    def budget(self, images: int) -> int | None:
        """Return how many pairs of some images may be tried; None where lists do not go on."""
        return round(self.pairs_per_photo * images) if self.candidates == "auto" else None

    def floor(self, extractor: str) -> int:
        """Return the inliers from which a pair counts as verified, with features of an extractor."""
        resolved = self.resolve(extractor).min_inliers
        assert resolved is not None
        return resolved


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


def pair_parameters(features: LocalFeatureStore, config: VerificationConfig) -> dict[str, Any]:
    """Return everything that verified pairs depend on, readable.

    The floor `min_inliers` only interprets them, and workers and devices only compute them.

    Args:
        features: that are matched.
        config: parameters.
    """
    resolved = config.resolve(features.extractor)
    return {
        "version": VERSION,
        "features": features.namespace,
        "method": available_method(resolved.ransac.method),
        "matching": resolved.matching.model_dump(mode="json", exclude={"device"}),
        "ransac": resolved.ransac.model_dump(mode="json", exclude={"method"}),
        "seed": resolved.seed,
    }


def verify_pairs(
    pairs: NDArray[np.int64],
    features: LocalFeatureStore,
    store: Store,
    config: VerificationConfig,
    executor: ExecutorConfig | None = None,
) -> pd.DataFrame:
    """Verify the pairs that are not verified yet.

    Pairs that share photos are computed together, so that a worker reads few features more than once. On a
    machine with a GPU one process matches there, and the workers of `loky` estimate what it has matched.

    Args:
        pairs: int64 `[m, 2]` table rows, the lower one first.
        features: local features of all images that occur.
        store: where verified pairs are kept.
        config: parameters.
        executor: where; default: in this process.

    Returns:
        One row a pair, ordered by rows: `row_a`, `row_b` int64 (table rows, row_a < row_b), `matches`
        (tentative correspondences), `inliers` int32, and `h11` ... `h33` float32, the homography from a to b
        in pixels of the original images (zeros without a model). Its `attrs` are `pair_parameters`.

    Raises:
        LandmarkRetrievalError: a row is beyond the table of the features.
    """
    ordered = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    resolved = config.resolve(features.extractor)
    if len(ordered) and int(ordered.max()) >= features.images:
        features.get(int(ordered.max()))  # says what is wrong
    keys, swapped = pair_keys(features.keys[ordered[:, 0]], features.keys[ordered[:, 1]])
    in_order = np.where(swapped[:, None], ordered[:, ::-1], ordered)
    together = locality_order(ordered)
    executor, processes = executor or ExecutorConfig(), 0
    if executor.backend == "loky" and matching_device(resolved.matching.device) is not None:
        executor, processes = ExecutorConfig(), thread_count(executor.workers or 0)
    met: list[int] = []

    def prepare(positions: NDArray[np.int64]) -> VerifyPairs:
        block = in_order[together[positions]]
        names = np.array([pair.decode() for pair in keys[together[positions]].tolist()], dtype=str)
        photos = np.unique(block)
        met.append(len(photos))
        helpers = processes if len(block) >= POOL_PAIRS else 0
        return VerifyPairs(block, names, features.take(photos), resolved, helpers)

    request = Request("spatial verification", "pair", prepare, config.shard_size, executor, shared=True)
    parameters = pair_parameters(features, config)
    places = store.namespace(KIND, parameters).fill(keys[together], request).places
    places = places.take(np.argsort(together))
    if met:
        logger.info("spatial verification: %d shards, which read %d photos", len(met), sum(met))
    frame: dict[str, NDArray[Any]] = {"row_a": ordered[:, 0], "row_b": ordered[:, 1]}
    if places.there.any():
        matches, inliers = (places.read(name) for name in ("matches", "inliers"))
        homographies = places.read("homographies")
    else:
        matches = inliers = np.zeros(len(ordered), np.int32)
        homographies = np.zeros((len(ordered), 3, 3), np.float32)
    frame |= {"matches": matches, "inliers": inliers}
    directed = _inverted(homographies, swapped).reshape(-1, 9)
    frame |= {column: directed[:, number] for number, column in enumerate(HOMOGRAPHY_COLUMNS)}
    table = pd.DataFrame(frame)
    table.attrs = dict(parameters)  # type: ignore[assignment]
    return table


def pair_keys(
    first: NDArray[np.str_], second: NDArray[np.str_]
) -> tuple[NDArray[np.bytes_], NDArray[np.bool_]]:
    """Return what pairs are kept by.

    Args:
        first: str `[m]` what the first photos are kept by, "" for none.
        second: the same of the second photos.

    Returns:
        `[m]` both in alphabetical order with a space between, "" where one is not there; and where that is
        not the order in which they were given, bool `[m]`.
    """
    a, b = np.asarray(first, dtype=np.bytes_), np.asarray(second, dtype=np.bytes_)
    swapped: NDArray[np.bool_] = a > b
    low, high = np.where(swapped, b, a), np.where(swapped, a, b)
    keys = np.strings.add(np.strings.add(low, b" "), high)
    return np.where((a == b"") | (b == b""), b"", keys).astype(np.bytes_), swapped


def _inverted(homographies: NDArray[np.float32], swapped: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return homographies, where `swapped` those of the other direction (H[2, 2] = 1, or all zeros)."""
    result = homographies.copy()
    for at in np.flatnonzero(swapped & homographies.any(axis=(1, 2))).tolist():
        inverse = np.linalg.inv(homographies[at].astype(np.float64))
        result[at] = inverse / inverse[2, 2]
    return result

"""One pair of photos: matched, and the homography between them estimated."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from landmark_retrieval.verification.matching import match
from landmark_retrieval.verification.ransac import (
    NO_MODEL,
    REFERENCE_SIDE,
    RansacConfig,
    estimate_homography,
)

if TYPE_CHECKING:
    from landmark_retrieval.local_features.base import LocalFeatures
    from landmark_retrieval.verification.pairs import VerificationConfig


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


@dataclass(frozen=True)
class MatchedPoints:
    """Tentative correspondences of one pair, all that the estimation of its homography needs.

    Attributes:
        first: float32 `[m, 2]` x, y in pixels of the first image.
        second: float32 `[m, 2]` their counterparts in pixels of the second.
        scales: by which the pixels of both are multiplied to those of the reference resolution.
        seed: non-negative.
    """

    first: NDArray[np.float32]
    second: NDArray[np.float32]
    scales: tuple[float, float]
    seed: int

    def __len__(self) -> int:
        return len(self.first)

    @classmethod
    def of(cls, a: LocalFeatures, b: LocalFeatures, matched: NDArray[np.int32], seed: int) -> MatchedPoints:
        """Return the points that are matched, `[m, 2]` numbers of features of both images."""
        scales = REFERENCE_SIDE / long_side(a), REFERENCE_SIDE / long_side(b)
        return cls(a.keypoints[matched[:, 0]], b.keypoints[matched[:, 1]], scales, seed)

    def homography(self, config: RansacConfig) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return the homography `[3, 3]`, zeros without a model, and which points agree with it, `[m]`."""
        if len(self) == 0:
            return NO_MODEL, np.zeros(0, np.bool_)
        scale_a, scale_b = self.scales
        homography, inliers = estimate_homography(
            self.first.astype(np.float64) * scale_a,
            self.second.astype(np.float64) * scale_b,
            config,
            self.seed,
            config.sought_inliers or 0,
        )
        if not inliers.any():
            return NO_MODEL, inliers
        homography = np.diag([1 / scale_b, 1 / scale_b, 1]) @ homography @ np.diag([scale_a, scale_a, 1])
        return homography / homography[2, 2], inliers

    def verified(self, config: RansacConfig) -> VerifiedPair:
        """Return what is known of the pair when its homography is estimated."""
        homography, inliers = self.homography(config)
        return VerifiedPair(len(self), int(inliers.sum()), homography)


def verify_pair(a: LocalFeatures, b: LocalFeatures, config: VerificationConfig, seed: int) -> VerifiedPair:
    """Match two images and estimate the homography between them.

    Args:
        a: features of the first image.
        b: features of the second image.
        config: parameters without open values.
        seed: non-negative.
    """
    return MatchedPoints.of(a, b, match(a, b, config.matching), seed).verified(config.ransac)


def correspondences(
    a: LocalFeatures, b: LocalFeatures, config: VerificationConfig, seed: int
) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.bool_]]:
    """Return what `verify_pair` counts; arguments as there.

    Returns:
        int32 `[m, 2]` matched features of both images, the homography `[3, 3]` between their pixels (all
        zeros without a model), and which of the matches are its inliers, bool `[m]`.
    """
    matched = match(a, b, config.matching)
    return matched, *MatchedPoints.of(a, b, matched, seed).homography(config.ransac)


def long_side(features: LocalFeatures) -> float:
    """Return the longer side of the image in pixels, or where it is not known of what the keypoints cover."""
    return max(1.0, float(max(features.size)) or float(features.keypoints.max(initial=0)))


def pair_seed(seed: int, key: str) -> int:
    """Return a seed below 2³¹ for one pair, independent of what else is compared.

    Args:
        seed: of the run.
        key: of `pair_keys`.
    """
    return int.from_bytes(hashlib.sha256(f"{seed} {key}".encode()).digest()[:4]) >> 1

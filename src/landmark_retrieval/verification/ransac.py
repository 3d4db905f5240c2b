"""Robust estimation of a homography between two sets of points, by one of several libraries."""

from __future__ import annotations

import importlib.util
import logging
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from landmark_retrieval.configuration import Configuration
from landmark_retrieval.verification.floors import default_floor

logger = logging.getLogger(__name__)

Points = NDArray[np.float64]
Mask = NDArray[np.bool_]
Method = Literal["pydegensac", "opencv_usac", "poselib"]

SAMPLE = 4
"""Correspondences that determine a homography."""

REFERENCE_SIDE = 640
"""Pixels that the long side of every picture is scaled to before estimation, so that a threshold means the
same in a small and in a large photo."""

NO_MODEL = np.zeros((3, 3))
"""The homography of a pair without a model."""


class RansacConfig(Configuration):
    """How a homography is estimated and which ones are believed.

    Attributes:
        method: `pydegensac` (LO-RANSAC of Chum et al., x86-64 Linux only), `opencv_usac`
            (MAGSAC++ of Barath et al.) or `poselib` (LO-RANSAC of Larsson).
        threshold: largest distance of an inlier from its predicted place, in pixels of a picture whose long
            side is `REFERENCE_SIDE`.
        confidence: probability of having seen an outlier-free sample at which sampling stops.
        max_iterations: most samples drawn.
        max_scale: an inlier counts only where the homography keeps the orientation and enlarges or shrinks
            lengths (square root of the area factor) at most this many times; guards against mirrored and
            collapsed models, which gather false inliers.
        sought_inliers: inliers of the models that are looked for: with fewer correspondences nothing is
            estimated, and no more samples are drawn than find a model of so many. None takes the extractor's
            calibrated floor. Lower it together with `min_inliers`.
    """

    method: Method = "pydegensac"
    threshold: float = Field(default=4.0, gt=0, le=REFERENCE_SIDE)
    confidence: float = Field(default=0.999, gt=0, lt=1)
    max_iterations: int = Field(default=10_000, ge=1, le=1_000_000_000)
    max_scale: float = Field(default=10.0, ge=1, le=1e6)
    sought_inliers: int | None = Field(default=None, ge=SAMPLE, le=1_000_000)

    def resolve(self, extractor: str | None) -> RansacConfig:
        """Return the configuration with every open value filled in for an extractor."""
        if self.sought_inliers is not None:
            return self
        sought = default_floor(extractor, available_method(self.method))
        return self.model_copy(update={"sought_inliers": sought})


def estimate_homography(
    points_a: NDArray[np.floating],
    points_b: NDArray[np.floating],
    config: RansacConfig,
    seed: int,
    min_inliers: int = SAMPLE,
) -> tuple[NDArray[np.float64], Mask]:
    """Estimate the homography that carries points of one image to points of another.

    Args:
        points_a: `[m, 2]` x, y in pixels at the reference resolution.
        points_b: `[m, 2]` their tentative counterparts.
        config: method, thresholds and limits.
        seed: non-negative; equal seeds give equal results.
        min_inliers: fewer inliers are of no interest: with fewer correspondences nothing is estimated, and
            no more samples are drawn than it takes to find a model of that many inliers.

    Returns:
        The homography `[3, 3]` float64 with H[2, 2] = 1 and the inliers `[m]` bool; without a model all
        zeros and all False.
    """
    a = np.ascontiguousarray(points_a, np.float64)
    b = np.ascontiguousarray(points_b, np.float64)
    nothing = NO_MODEL.copy(), np.zeros(len(a), np.bool_)
    if len(a) < max(SAMPLE, min_inliers):
        return nothing
    limit = iteration_limit(len(a), min_inliers, config)
    homography, inliers = _ESTIMATORS[available_method(config.method)](a, b, config, limit, seed)
    if not np.isfinite(homography).all() or abs(homography[2, 2]) < 1e-12:
        return nothing
    homography = homography / homography[2, 2]
    inliers &= plausible(homography, a, config.max_scale)
    if inliers.sum() < SAMPLE:
        return nothing
    return homography, inliers


def iteration_limit(matches: int, min_inliers: int, config: RansacConfig) -> int:
    """Return how many samples find a model of `min_inliers` among `matches` at the asked confidence.

    The number N with 1 - (1 - s⁴)ᴺ = confidence, s being the share of inliers (Fischler and Bolles, 1981,
    section II.B); from 50 to `config.max_iterations`.

    Args:
        matches: tentative correspondences, at least `SAMPLE`.
        min_inliers: inliers that a model of interest has.
        config: confidence and most iterations.
    """
    share = min(1.0, max(min_inliers, SAMPLE) / matches)
    if share == 1.0:
        return min(config.max_iterations, 50)
    wanted = math.log(1 - config.confidence) / math.log1p(-(share**SAMPLE))
    return int(min(config.max_iterations, max(50, math.ceil(wanted))))


def plausible(homography: NDArray[np.float64], points: Points, max_scale: float) -> Mask:
    """Return at which points a homography keeps the orientation and scales moderately.

    The factor by which H enlarges areas at (x, y) is det(H) / w³ with w = h31 x + h32 y + h33 (the
    determinant of its Jacobian).

    Args:
        homography: `[3, 3]`.
        points: `[m, 2]`.
        max_scale: largest linear magnification, and its inverse the smallest.

    Returns:
        `[m]` bool.
    """
    w = points @ homography[2, :2] + homography[2, 2]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        area = np.linalg.det(homography) / w**3
    # H and -H give the same factor; points beyond the horizon get the opposite sign of those in view.
    moderate: Mask = (area > max_scale**-2) & (area < max_scale**2)
    return moderate


@lru_cache
def available_method(method: Method) -> Method:
    """Return the method, or `opencv_usac` with a warning where pydegensac is not installed."""
    if method == "pydegensac" and importlib.util.find_spec("pydegensac") is None:
        logger.warning("pydegensac is not available on this platform: using OpenCV's USAC_MAGSAC instead")
        return "opencv_usac"
    return method


def _pydegensac(a: Points, b: Points, config: RansacConfig, limit: int, seed: int) -> tuple[Points, Mask]:
    import pydegensac

    homography, inliers = pydegensac.findHomography(
        a,
        b,
        px_th=config.threshold,
        conf=config.confidence,
        max_iters=limit,
        laf_consistensy_coef=-1.0,
        error_type="symm_max",
        symmetric_error_check=True,
        seed=seed % (2**31 - 1) + 1,
    )
    return homography, np.asarray(inliers, np.bool_)


def _opencv(a: Points, b: Points, config: RansacConfig, limit: int, seed: int) -> tuple[Points, Mask]:
    import cv2

    parameters = cv2.UsacParams()
    parameters.threshold = config.threshold
    parameters.confidence = config.confidence
    parameters.maxIterations = limit
    parameters.randomGeneratorState = seed % (2**31 - 1)
    parameters.isParallel = False
    parameters.score = cv2.SCORE_METHOD_MAGSAC
    parameters.loMethod = cv2.LOCAL_OPTIM_SIGMA
    parameters.loIterations = 10
    parameters.loSampleSize = 20
    parameters.sampler = cv2.SAMPLING_UNIFORM
    parameters.final_polisher = cv2.MAGSAC
    parameters.final_polisher_iterations = 3
    homography, mask = cv2.findHomography(a, b, parameters)
    if homography is None:
        return NO_MODEL.copy(), np.zeros(len(a), np.bool_)
    return np.asarray(homography, np.float64), np.asarray(mask).ravel() > 0


def _poselib(a: Points, b: Points, config: RansacConfig, limit: int, seed: int) -> tuple[Points, Mask]:
    import poselib

    options = {
        "max_reproj_error": config.threshold,
        "max_iterations": limit,
        "min_iterations": min(limit, 50),
        "success_prob": config.confidence,
        "seed": seed % (2**31 - 1),
    }
    homography, info = poselib.estimate_homography(a, b, options)
    return np.asarray(homography), np.asarray(info["inliers"], np.bool_)


_ESTIMATORS: dict[Method, Callable[[Points, Points, RansacConfig, int, int], tuple[Points, Mask]]] = {
    "pydegensac": _pydegensac,
    "opencv_usac": _opencv,
    "poselib": _poselib,
}

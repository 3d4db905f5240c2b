"""How many inliers make a verified pair: the floor of each extractor and the rule it comes from."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

ONE_IN = 1000
"""The floor is built on the inliers that one unrelated pair in so many exceeds (the 99.9th percentile)."""

MARGIN = 2
"""Inliers that the floor stands above the percentile."""

MIN_INLIERS = {"aliked": 12, "disk": 9, "xfeat": 16, "delf": 8, "sift": 9}
"""Floor of each extractor with pydegensac, where the configuration leaves it open.

Measured on 20,000 pairs of sf101 and vietnam5 with 2000 keypoints, long side 640 and the ratios of
`matching.RATIOS`. delf is untrained (EfficientNet-Lite2): another backbone or a trained attention wants its
own floor.
"""

METHOD_MARGIN = {"opencv_usac": 3, "poselib": 3}
"""Inliers that other methods than pydegensac find on top in unrelated pairs (`benchmarks.ransac`)."""

DEFAULT_MIN_INLIERS = 15
"""Floor of extractors that `MIN_INLIERS` does not name."""


def floor_from_unrelated(inliers: ArrayLike) -> int:
    """Return the floor that the inliers of unrelated pairs ask for: their percentile plus a margin.

    This is the one rule for floors. `python -m benchmarks.inlier_floors` measures the counts, and
    `MIN_INLIERS` keeps what came out.

    Args:
        inliers: of pairs of photos that show nothing in common, compared with everything else as in a run.
            One in a thousand decides, so take ten thousand or more.

    Raises:
        ValueError: no pairs.
    """
    counts = np.sort(np.asarray(inliers))
    if counts.size == 0:
        raise ValueError("a floor needs pairs of unrelated photos")
    return int(counts[len(counts) - 1 - len(counts) // ONE_IN]) + MARGIN


def default_floor(extractor: str | None, method: str = "pydegensac") -> int:
    """Return the floor of an extractor and a RANSAC method by their names."""
    return MIN_INLIERS.get(extractor or "", DEFAULT_MIN_INLIERS) + METHOD_MARGIN.get(method, 0)

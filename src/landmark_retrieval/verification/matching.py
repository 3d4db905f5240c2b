"""Tentative correspondences: mutual nearest neighbours that pass the ratio test in both images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from landmark_retrieval.configuration import Configuration

if TYPE_CHECKING:
    from landmark_retrieval.local_features.base import LocalFeatures

RATIOS = {"aliked": 0.95, "disk": 0.95, "xfeat": 0.95, "delf": 0.98, "sift": 0.9}
"""Ratio threshold of each extractor where the configuration leaves it open."""

DEFAULT_RATIO = 0.95
"""Ratio threshold of extractors that `RATIOS` does not name."""


class MatchingConfig(Configuration):
    """How descriptors of two images are paired.

    Attributes:
        ratio: largest accepted quotient of the distances to the nearest and to the second nearest
            descriptor (Lowe 2004, section 7.1), asked of both images; 1 switches the test off,
            None takes the extractor's value from `RATIOS`.
    """

    ratio: float | None = None

    def resolve(self, extractor: str | None) -> MatchingConfig:
        """Return the configuration with every open value filled in for an extractor."""
        if self.ratio is not None:
            return self
        return self.model_copy(update={"ratio": RATIOS.get(extractor or "", DEFAULT_RATIO)})


def match(a: LocalFeatures, b: LocalFeatures, config: MatchingConfig) -> NDArray[np.int32]:
    """Return tentative correspondences between two images.

    Args:
        a: features of one image, descriptors `[m, d]` float16 or float32 with L2-normalised rows.
        b: features of the other image.
        config: thresholds.

    Returns:
        int32 `[c, 2]`: feature numbers in `a` and in `b`, ascending in `a`; no feature occurs twice.
        Swapping the images swaps the columns.
    """
    if len(a.descriptors) == 0 or len(b.descriptors) == 0:
        return np.zeros((0, 2), np.int32)
    ratio = config.resolve(None).ratio
    assert ratio is not None
    return mutual_matches(as_float32(a.descriptors) @ as_float32(b.descriptors).T, ratio)


def mutual_matches(similarities: NDArray[np.float32], ratio: float) -> NDArray[np.int32]:
    """Return the mutual nearest neighbours of a similarity matrix that pass the ratio test both ways.

    With inner products s of unit vectors the squared distance is 2 - 2 s, so that no distance is computed.

    Args:
        similarities: `[m, n]` inner products; overwritten.
        ratio: largest accepted distance quotient; 1 or more switches the test off.

    Returns:
        int32 `[c, 2]` of row and column numbers, ascending; of equal neighbours the first one counts.
    """
    nearest = similarities.argmax(axis=1)
    rows = np.arange(len(similarities))
    best = similarities[rows, nearest]
    mutual = best == similarities.max(axis=0)[nearest]
    rows, columns, best = rows[mutual], nearest[mutual], best[mutual]
    _, first = np.unique(columns, return_index=True)
    first.sort()
    rows, columns, best = rows[first], columns[first], best[first]
    if ratio < 1 and len(rows):
        similarities[rows, columns] = -np.inf
        second = np.maximum(similarities[rows].max(axis=1), similarities[:, columns].max(axis=0))
        passed = np.maximum(1 - best, 0) < np.float32(ratio**2) * (1 - second)
        rows, columns = rows[passed], columns[passed]
    return np.stack([rows, columns], axis=1).astype(np.int32)


def as_float32(x: NDArray[np.float16] | NDArray[np.float32]) -> NDArray[np.float32]:
    """Return finite values as float32, exactly; several times faster than `astype` for float16."""
    if x.dtype != np.float16:
        return np.ascontiguousarray(x, np.float32)
    wide = np.ascontiguousarray(x).view(np.int16).astype(np.int32)
    bits = (wide & 0x7FFF) << 13
    bits |= wide & -0x80000000
    # The exponent moves from a bias of 15 to one of 127; multiplying is exact for subnormal numbers as well.
    return bits.view(np.float32) * np.float32(2.0**112)

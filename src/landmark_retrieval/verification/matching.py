"""Tentative correspondences: mutual nearest neighbours that pass the ratio test in both images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numba import njit
from numpy.typing import NDArray
from pydantic import Field

from landmark_retrieval.configuration import Configuration

if TYPE_CHECKING:
    from landmark_retrieval.local_features.base import LocalFeatures

RATIOS = {"aliked": 0.98, "disk": 0.98, "xfeat": 0.98, "delf": 0.98, "sift": 0.9}
"""Ratio threshold of each extractor where the configuration leaves it open.

The more features an image has, the closer is the second nearest one: with 2000 of ALIKED, 0.95 keeps 87 of 93
true pairs of buildings above the floor that unrelated pairs ask for, 0.98 keeps 91, and so does 1 with three
times as many chance inliers; on posters seen from the side 0.98 finds what 0.95 misses (docs/benchmarks.md).
The value of delf is not measured.
"""

DEFAULT_RATIO = 0.95
"""Ratio threshold of extractors that `RATIOS` does not name."""

LANES = 64
"""Columns that the row scan treats at a time; a multiple of every vector register's width."""


class MatchingConfig(Configuration):
    """How descriptors of two images are paired.

    Attributes:
        ratio: largest accepted quotient of the distances to the nearest and to the second nearest
            descriptor (Lowe 2004, section 7.1), asked of both images; 1 switches the test off,
            None takes the extractor's value from `RATIOS`.
        device: `auto` matches on a GPU where there is one, an image with all its candidates at once; `cpu`
            never does. Both find the same but for rounding.
    """

    ratio: float | None = Field(default=None, gt=0, le=1)
    device: Literal["auto", "cpu"] = "auto"

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
        similarities: `[m, n]` inner products.
        ratio: largest accepted distance quotient; 1 or more switches the test off.

    Returns:
        int32 `[c, 2]` of row and column numbers, ascending; of equal neighbours the first one counts. Equal
        nearest and second nearest neighbours never pass the ratio test.
    """
    m, n = similarities.shape
    row_best, row_second = np.empty(m, np.float32), np.empty(m, np.float32)
    column_best, column_second = np.full(n, -np.inf, np.float32), np.full(n, -np.inf, np.float32)
    _two_largest_of_rows(similarities, row_best, row_second)
    _two_largest_of_columns(similarities, column_best, column_second)
    candidates = np.arange(m)
    if ratio < 1:
        squared = np.float32(ratio**2)
        column_best = np.where(_distinct(column_best, column_second, squared), column_best, np.inf)
        candidates = np.flatnonzero(_distinct(row_best, row_second, squared))
    nearest = similarities[candidates].argmax(axis=1)
    mutual = row_best[candidates] == column_best[nearest]
    rows, columns = candidates[mutual], nearest[mutual]
    first = np.sort(np.unique(columns, return_index=True)[1])
    return np.stack([rows[first], columns[first]], axis=1).astype(np.int32)


def as_float32(x: NDArray[np.float16] | NDArray[np.float32]) -> NDArray[np.float32]:
    """Return finite values as float32, exactly; faster than `astype` for float16."""
    if x.dtype != np.float16:
        return np.ascontiguousarray(x, np.float32)
    wide = np.ascontiguousarray(x).view(np.int16).astype(np.int32)
    bits = (wide & 0x7FFF) << 13
    bits |= wide & -0x80000000
    # The exponent moves from a bias of 15 to one of 127; multiplying is exact for subnormal numbers as well.
    return bits.view(np.float32) * np.float32(2.0**112)


def _distinct(
    best: NDArray[np.float32], second: NDArray[np.float32], squared: np.float32
) -> NDArray[np.bool_]:
    return np.maximum(1 - best, 0) < squared * (1 - second)


@njit(cache=True, nogil=True)
def _two_largest_of_columns(
    values: NDArray[np.float32], best: NDArray[np.float32], second: NDArray[np.float32]
) -> None:
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            value, top = values[i, j], best[j]
            lower = value if value < top else top
            second[j] = lower if lower > second[j] else second[j]
            best[j] = value if value > top else top


@njit(cache=True, nogil=True)
def _two_largest_of_rows(
    values: NDArray[np.float32], best: NDArray[np.float32], second: NDArray[np.float32]
) -> None:
    # Running maxima in independent lanes, so that the compiler can use vector registers.
    rows, columns = values.shape
    whole = columns // LANES * LANES
    lane_best, lane_second = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    for i in range(rows):
        lane_best[:] = -np.inf
        lane_second[:] = -np.inf
        for start in range(0, whole, LANES):
            for lane in range(LANES):
                value, top = values[i, start + lane], lane_best[lane]
                lower = value if value < top else top
                lane_second[lane] = lower if lower > lane_second[lane] else lane_second[lane]
                lane_best[lane] = value if value > top else top
        first = np.float32(-np.inf)
        next_one = np.float32(-np.inf)
        for lane in range(LANES + columns - whole):
            value = lane_best[lane] if lane < LANES else values[i, whole + lane - LANES]
            lower = value if value < first else first
            next_one = lower if lower > next_one else next_one
            first = value if value > first else first
        for lane in range(LANES):
            next_one = lane_second[lane] if lane_second[lane] > next_one else next_one
        best[i] = first
        second[i] = next_one

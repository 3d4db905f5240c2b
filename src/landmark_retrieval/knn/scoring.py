"""Inner products that are rounded correctly, so that no order of summation changes a byte."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHUNK_VALUES = 1 << 22
"""Products that are kept at a time, in double precision."""


def unsure(sums: NDArray[np.float64], margins: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which sums round to float32 differently within their margin of error."""
    return np.not_equal((sums - margins).astype(np.float32), (sums + margins).astype(np.float32))


def rounded_products(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float32]:
    """Return the inner product of each row of `a` with the same row of `b`, rounded to float32.

    Products of float32 numbers are exact in double precision; where the error of their sum could change the
    rounding, they are added up without error (Shewchuk's algorithm, `math.fsum`).

    Args:
        a: float32 or float16 `[m, d]`.
        b: `[m, d]`.

    Returns:
        float32 `[m]`.
    """
    result = np.empty(len(a), np.float32)
    step = max(1, CHUNK_VALUES // a.shape[1])
    for start in range(0, len(a), step):
        products = a[start : start + step].astype(np.float64) * b[start : start + step].astype(np.float64)
        sums = products.sum(axis=1)
        result[start : start + step] = sums
        margins = a.shape[1] * 2.0**-52 * np.abs(products).sum(axis=1)
        for row in np.flatnonzero(unsure(sums, margins)):
            result[start + row] = math.fsum(products[row].tolist())
    return result

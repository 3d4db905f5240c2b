"""Moments of a stream of vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Covariance:
    """Running moments of a stream of vectors, enough for their covariance and its shrinkage intensity.

    Args:
        dimension: length d of the vectors.
    """

    def __init__(self, dimension: int) -> None:
        self.count = 0
        self._sum = np.zeros(dimension)
        self._outer = np.zeros((dimension, dimension))
        self._weighted_sum = np.zeros(dimension)
        self._fourth = 0.0

    def update(self, x: NDArray[Any]) -> None:
        """Add the rows of `x` `[n, d]`; zero rows are left out."""
        x = np.asarray(x, dtype=np.float64)
        squared = np.einsum("ij,ij->i", x, x)
        keep = squared > 0
        x, squared = x[keep], squared[keep]
        self.count += len(x)
        self._sum += x.sum(axis=0)
        self._outer += x.T @ x
        self._weighted_sum += squared @ x
        self._fourth += float(squared @ squared)

    def mean(self) -> NDArray[np.float64]:
        """Return the mean `[d]`."""
        return self._sum / max(self.count, 1)

    def covariance(self) -> NDArray[np.float64]:
        """Return the maximum-likelihood covariance `[d, d]`."""
        mean = self.mean()
        return self._outer / max(self.count, 1) - np.outer(mean, mean)

    def ledoit_wolf(self, effective_count: float | None = None) -> float:
        """Return Ledoit and Wolf's optimal weight of the identity, in [0, 1].

        Args:
            effective_count: number of independent samples when it is below the number of vectors.
        """
        n, mean, covariance = self.count, self.mean(), self.covariance()
        c = float(mean @ mean)
        trace = float(np.trace(self._outer))
        # sum over samples of |x - mean|^4, from the raw moments
        fourth = (
            self._fourth
            + 4 * float(mean @ self._outer @ mean)
            + n * c * c
            - 4 * float(mean @ self._weighted_sum)
            + 2 * c * trace
            - 4 * c * float(mean @ self._sum)
        )
        squares = float(np.sum(covariance**2))
        spread = squares - float(np.trace(covariance)) ** 2 / len(mean)
        noise = max(0.0, fourth / n - squares) / (effective_count or n)
        return 1.0 if spread <= 0 else min(1.0, noise / spread)

"""What a search returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The nearest database rows of each query.

    Attributes:
        neighbors: int32 `[n, k]` database rows by falling similarity, ties by lower row; -1 where there are
            fewer than k.
        weights: float32 `[n, k]` inner products; -inf for padding.
    """

    neighbors: NDArray[np.int32]
    weights: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.neighbors)


@dataclass(frozen=True, eq=False)
class KnnGraph:
    """Nearest index images of every query and of every index image.

    Attributes:
        query_neighbors: int32 `[q, k]` index rows (0 is the first index image), -1 padded.
        query_weights: float32 `[q, k]` inner products, descending, -inf padded.
        index_neighbors: int32 `[n, k]` index rows other than the image itself, -1 padded.
        index_weights: float32 `[n, k]` inner products, descending, -inf padded.
    """

    query_neighbors: NDArray[np.int32]
    query_weights: NDArray[np.float32]
    index_neighbors: NDArray[np.int32]
    index_weights: NDArray[np.float32]

"""What a search returns: lists of neighbours, and the two sides of a k-NN graph."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class NeighborLists:
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

    def __getitem__(self, rows: slice) -> NeighborLists:
        """Return the lists of some queries, without copying them."""
        return NeighborLists(self.neighbors[rows], self.weights[rows])


@dataclass(frozen=True, eq=False)
class KnnGraph:
    """Nearest index images of every query and of every index image.

    A collection without queries asks its index images, whose lists leave each image itself out already.

    Attributes:
        queries: `[q, k]` index rows (0 is the first index image) nearest to each query.
        index: `[n, k]` index rows nearest to each index image, other than itself.
    """

    queries: NeighborLists
    index: NeighborLists

    @property
    def asked(self) -> NeighborLists:
        """The lists of the images that are asked (`SplitRows.asked`)."""
        return self.queries if len(self.queries) else self.index

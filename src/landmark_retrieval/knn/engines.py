"""What multiplies the matrices: BLAS on the CPU, PyTorch or FAISS on the CPU or on GPUs.

All engines end in the same compiled selection (`kernel`), which makes their results equal to the last byte.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from landmark_retrieval.knn.blocks import Block
from landmark_retrieval.knn.kernel import gather_from_products, gathered_width, offer_gathered, sort_heaps
from landmark_retrieval.knn.neighbors import NeighborLists
from landmark_retrieval.knn.products import LARGE, fastest_product, torch_product
from landmark_retrieval.runtime.compiled import frozen, run_chunks

UNIT_ROUNDOFF = 2.0**-24
QUERIES_AT_A_TIME = 16
"""Queries that a thread selects for at a time."""


class Best:
    """The best rows of each query so far, as heaps (`kernel`).

    Args:
        scores: float32 `[q, k]`.
        rows: int32 `[q, k]`.
    """

    def __init__(self, scores: NDArray[np.float32], rows: NDArray[np.int32]) -> None:
        self.scores = scores
        self.rows = rows

    @classmethod
    def empty(cls, queries: int, k: int) -> Best:
        """Return heaps that hold nothing yet."""
        return cls(np.full((queries, k), -np.inf, np.float32), np.full((queries, k), -1, np.int32))

    def part(self, start: int, stop: int) -> Best:
        """Return a view of the heaps of queries start to stop."""
        return Best(self.scores[start:stop], self.rows[start:stop])

    def sorted(self, threads: int) -> NeighborLists:
        """Return what was found by falling score, ties by lower row; the heaps are heaps no more."""
        run_chunks(
            len(self.rows),
            QUERIES_AT_A_TIME,
            threads,
            lambda: None,
            lambda _, first, last: sort_heaps(self.scores, self.rows, first, last),
        )
        return NeighborLists(self.rows, self.scores)


class Engine(Protocol):
    """Merges blocks of the database into the best rows of blocks of queries."""

    name: str

    def load(self, database: Block) -> None:
        """Take the block of the database that the next calls of `update` compare with."""

    def update(self, queries: Block, excluded: NDArray[np.int64], best: Best) -> None:
        """Merge the loaded block into the best rows of the queries.

        Args:
            queries: block of queries.
            excluded: int64 `[b]` row that must not be returned, -1 for none.
            best: heaps of these queries, changed in place.
        """


def error_bound(queries: Block, database: Block, factor: float = 1.0) -> NDArray[np.float32]:
    """Return the bound of the error of rounded inner products; negative where there is no descriptor.

    Args:
        queries: the queries.
        database: the block they are compared with.
        factor: how much worse than IEEE float32 the engine may add up.
    """
    dimensions = queries.matrix.shape[1]
    gamma = 1.02 * factor * (dimensions + 8) * UNIT_ROUNDOFF
    largest = float(database.norms.max(initial=0.0))
    underflow = dimensions * float(np.finfo(np.float32).tiny)
    bound = gamma * queries.norms.astype(np.float64) * largest + underflow
    return np.where(queries.norms > 0, bound, -1.0).astype(np.float32)


class BlasEngine:
    """Matrix products of tiles on the CPU, selected from by compiled threads.

    Args:
        tile: columns of a product.
        queries: most queries in a call of `update`.
        threads: most threads to use.
    """

    name = "blas"

    def __init__(self, tile: int, queries: int, threads: int) -> None:
        self._size = tile * queries
        self._products = np.empty(0, np.float32)
        self._tile = tile
        self._threads = threads

    def load(self, database: Block) -> None:
        """Take the block of the database that the next calls of `update` compare with."""
        self._database = database

    def update(self, queries: Block, excluded: NDArray[np.int64], best: Best) -> None:
        """Merge the loaded block into the best rows of the queries."""
        database, count, k = self._database, len(queries), best.rows.shape[1]
        if len(self._products) == 0:
            self._products = np.empty(self._size, np.float32)
        matrix, slack = frozen(queries.matrix), error_bound(queries, database)
        block, rows = frozen(database.matrix), frozen(database.rows)
        columns = np.empty((count, gathered_width(k)), np.int32)
        values = np.empty(columns.shape, np.float32)
        noted = columns, values, np.zeros(count, np.int32), np.full(count, -np.inf, np.float32)

        for start in range(0, len(database), self._tile):
            products = self._multiply(queries, start, min(start + self._tile, len(database)))

            def gather(_: None, first: int, last: int, products: Any = products, tile: int = start) -> None:
                gather_from_products(
                    products, tile, matrix, slack, excluded, block, rows, best.scores, best.rows, *noted,
                    first, last,
                )  # fmt: skip

            run_chunks(count, QUERIES_AT_A_TIME, self._threads, lambda: None, gather)
        run_chunks(
            count,
            QUERIES_AT_A_TIME,
            self._threads,
            lambda: None,
            lambda _, first, last: offer_gathered(
                matrix, slack, block, rows, best.scores, best.rows, *noted, first, last
            ),
        )

    def _multiply(self, queries: Block, start: int, stop: int) -> NDArray[np.float32]:
        """Return the rounded inner products of queries and rows start to stop of the loaded block."""
        products = self._products[: len(queries) * (stop - start)].reshape(len(queries), stop - start)
        large = 2.0 * len(self._database) * queries.matrix.size > LARGE
        multiply = fastest_product(self._threads) if large else torch_product
        multiply(queries.matrix, self._database.matrix[start:stop], products)
        return products

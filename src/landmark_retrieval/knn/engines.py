"""What multiplies the matrices: BLAS on the CPU, PyTorch or FAISS on the CPU or on GPUs.

All engines end in the same compiled selection (`kernel`), which makes their results equal to the last byte.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from landmark_retrieval.graph.compiled import frozen, run_chunks
from landmark_retrieval.knn.blocks import Block
from landmark_retrieval.knn.kernel import select_from_products, sort_heaps
from landmark_retrieval.knn.neighbors import Neighbors

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

    def sorted(self, threads: int) -> Neighbors:
        """Return what was found by falling score, ties by lower row; the heaps are heaps no more."""
        run_chunks(
            len(self.rows),
            QUERIES_AT_A_TIME,
            threads,
            lambda: None,
            lambda _, first, last: sort_heaps(self.scores, self.rows, first, last),
        )
        return Neighbors(self.rows, self.scores)


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


class _Writable:
    """The memory of an array for libraries that read it but have no notion of read-only arrays."""

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array
        self.__array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, False)}


def as_tensor(array: NDArray[np.float32]) -> torch.Tensor:
    """Return a tensor on the memory of an array that may be read-only; it must not be written to."""
    return torch.from_numpy(array if array.flags.writeable else np.asarray(_Writable(array)))


@contextlib.contextmanager
def library_threads(threads: int) -> Iterator[None]:
    """Let PyTorch and FAISS use at most so many threads of the CPU, and as many as before afterwards."""
    before = torch.get_num_threads(), faiss.omp_get_max_threads()
    if threads < before[0]:
        torch.set_num_threads(threads)
    faiss.omp_set_num_threads(min(threads, before[1]))
    try:
        yield
    finally:
        if threads < before[0]:
            torch.set_num_threads(before[0])
        faiss.omp_set_num_threads(before[1])


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Multiply float32 matrices as float32, whatever the process has allowed PyTorch to do instead."""
    precision = torch.get_float32_matmul_precision()
    half = torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction
    try:
        if precision != "highest":
            torch.set_float32_matmul_precision("highest")
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
        yield
    finally:
        if precision != "highest":
            torch.set_float32_matmul_precision(precision)
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = half


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
        self._matrix = as_tensor(database.matrix)

    def update(self, queries: Block, excluded: NDArray[np.int64], best: Best) -> None:
        """Merge the loaded block into the best rows of the queries."""
        database = self._database
        if len(self._products) == 0:
            self._products = np.empty(self._size, np.float32)
        slack = error_bound(queries, database)
        query_matrix = as_tensor(queries.matrix)
        readable = frozen(queries.matrix)
        for start in range(0, len(database), self._tile):
            stop = min(start + self._tile, len(database))
            products = self._products[: len(queries) * (stop - start)].reshape(len(queries), stop - start)
            with full_precision():
                torch.mm(query_matrix, self._matrix[start:stop].T, out=torch.from_numpy(products))
            tile, rows = frozen(database.matrix[start:stop]), frozen(database.rows[start:stop])

            def workspace(width: int = stop - start) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
                return np.empty(width, np.int32), np.empty(width, np.float32)

            def select(
                space: Any,
                first: int,
                last: int,
                products: Any = products,
                tile: Any = tile,
                rows: Any = rows,
            ) -> None:
                select_from_products(
                    products,
                    readable,
                    slack,
                    excluded,
                    tile,
                    rows,
                    best.scores,
                    best.rows,
                    *space,
                    first,
                    last,
                )

            run_chunks(len(queries), QUERIES_AT_A_TIME, self._threads, workspace, select)

"""What multiplies the matrices: BLAS on the CPU, PyTorch or FAISS on the CPU or on GPUs.

All engines end in the same compiled selection (`kernel`), which makes their results equal to the last byte.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from landmark_retrieval.graph.compiled import frozen, run_chunks
from landmark_retrieval.knn.blocks import Block
from landmark_retrieval.knn.kernel import select_from_candidates, select_from_products

logger = logging.getLogger(__name__)

UNIT_ROUNDOFF = 2.0**-24
QUERIES_AT_A_TIME = 16
"""Queries that a thread selects for at a time."""

FAISS_GPU_MAX_K = 2048
"""Most neighbours that FAISS selects on a GPU."""


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
        self._matrix = torch.from_numpy(database.matrix)

    def update(self, queries: Block, excluded: NDArray[np.int64], best: Best) -> None:
        """Merge the loaded block into the best rows of the queries."""
        database = self._database
        if len(self._products) == 0:
            self._products = np.empty(self._size, np.float32)
        slack = error_bound(queries, database)
        query_matrix = torch.from_numpy(queries.matrix)
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


class _CandidateEngine:
    """Base of the engines that return only the largest rounded products of each query.

    Where those cannot be shown to hold all of the k nearest (many equal descriptors), the CPU repeats the
    query.
    """

    name = "candidates"
    error_factor = 4.0  # matrix units of GPUs may truncate where IEEE rounds

    def __init__(self, k: int, fallback: BlasEngine, queries: int, threads: int) -> None:
        self._width = candidate_count(k)
        self._fallback = fallback
        self._fallback_queries = queries
        self._threads = threads

    def load(self, database: Block) -> None:
        """Take the block of the database that the next calls of `update` compare with."""
        self._database = database
        self._fallback.load(database)

    def candidates(
        self, queries: NDArray[np.float32], count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return columns int64 `[b, count]` of the loaded block and their rounded inner products."""
        raise TypeError(f"{type(self).__name__} must say how candidates are found")

    def update(self, queries: Block, excluded: NDArray[np.int64], best: Best) -> None:
        """Merge the loaded block into the best rows of the queries."""
        database = self._database
        if len(database) == 0:
            return
        found, similarities = self.candidates(queries.matrix, min(self._width, len(database)))
        slack = error_bound(queries, database, self.error_factor)
        complete = np.empty(len(queries), np.bool_)
        readable, block, rows = frozen(queries.matrix), frozen(database.matrix), frozen(database.rows)
        width = found.shape[1]
        run_chunks(
            len(queries),
            QUERIES_AT_A_TIME,
            self._threads,
            lambda: (np.empty(width, np.int32), np.empty(width, np.float32)),
            lambda space, first, last: select_from_candidates(
                found,
                similarities,
                readable,
                slack,
                excluded,
                block,
                rows,
                best.scores,
                best.rows,
                complete,
                *space,
                first,
                last,
            ),
        )
        again = np.flatnonzero(~complete)
        for start in range(0, len(again), self._fallback_queries):
            some = again[start : start + self._fallback_queries]
            part = Block(queries.matrix[some], queries.rows[some], queries.norms[some])
            kept = Best(best.scores[some], best.rows[some])
            self._fallback.update(part, excluded[some], kept)
            best.scores[some], best.rows[some] = kept.scores, kept.rows


class TorchEngine(_CandidateEngine):
    """Matrix product and `topk` by PyTorch, on one or several devices at once.

    Args:
        k: neighbours wanted.
        devices: PyTorch devices; the queries are divided among them.
        storage: number type of the matrices on the devices.
        tile: columns of a product.
        fallback: engine for queries whose candidates do not suffice.
        queries: most queries of a call of the fallback.
        threads: most CPU threads to use.
    """

    name = "torch"

    def __init__(
        self,
        k: int,
        devices: list[str],
        storage: str,
        tile: int,
        fallback: BlasEngine,
        queries: int,
        threads: int,
    ) -> None:
        super().__init__(k, fallback, queries, threads)
        self._devices = [torch.device(name) for name in devices]
        # Half-precision products with single-precision sums exist on GPUs only.
        half = storage == "float16" and all(device.type == "cuda" for device in self._devices)
        self._dtype = torch.float16 if half else torch.float32
        self._tile = tile

    def load(self, database: Block) -> None:
        """Take the block of the database that the next calls of `update` compare with."""
        super().load(database)
        self._matrices: list[torch.Tensor] = []  # the old ones go before the new ones come
        matrix = torch.from_numpy(database.matrix).to(self._dtype)
        self._matrices = [matrix.to(device) for device in self._devices]

    def candidates(
        self, queries: NDArray[np.float32], count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return columns int64 `[b, count]` of the loaded block and their rounded inner products."""
        parts = np.array_split(queries, len(self._devices))
        with full_precision(), ThreadPoolExecutor(len(parts)) as pool:
            results = list(pool.map(lambda m, q: self._search(m, q, count), self._matrices, parts))
        return np.concatenate([one[0] for one in results]), np.concatenate([one[1] for one in results])

    def _search(
        self, matrix: torch.Tensor, queries: NDArray[np.float32], count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        with torch.inference_mode():
            part = torch.from_numpy(queries).to(self._dtype).to(matrix.device)
            values = torch.empty((len(part), 0), dtype=torch.float32, device=matrix.device)
            columns = torch.empty((len(part), 0), dtype=torch.int64, device=matrix.device)
            for start in range(0, len(matrix), self._tile):
                tile = matrix[start : start + self._tile]
                new_values, new_columns = torch.topk(
                    _products(part, tile), min(count, len(tile)), dim=1, sorted=False
                )
                values = torch.cat([values, new_values], dim=1)
                columns = torch.cat([columns, new_columns + start], dim=1)
                if values.shape[1] > count:
                    values, best = torch.topk(values, count, dim=1, sorted=False)
                    columns = columns.gather(1, best)
            return columns.cpu().numpy(), values.cpu().numpy()


def _products(queries: torch.Tensor, tile: torch.Tensor) -> torch.Tensor:
    """Return float32 inner products; halves are multiplied as halves and summed in single precision."""
    if queries.dtype == torch.float16:
        return torch.mm(queries, tile.T, out_dtype=torch.float32)
    return torch.mm(queries, tile.T)


class FaissEngine(_CandidateEngine):
    """Flat indexes of FAISS, on the CPU or a copy on each of several GPUs.

    Args:
        k: neighbours wanted.
        gpus: numbers of the GPUs; the queries are divided among them. None for the CPU.
        storage: number type of the index on GPUs.
        fallback: engine for queries whose candidates do not suffice.
        queries: most queries of a call of the fallback.
        threads: most CPU threads to use.
    """

    name = "faiss"

    def __init__(
        self,
        k: int,
        gpus: list[int] | None,
        storage: str,
        fallback: BlasEngine,
        queries: int,
        threads: int,
    ) -> None:
        super().__init__(k, fallback, queries, threads)
        self._gpus = gpus
        self._half = storage == "float16"
        self._resources = [faiss.StandardGpuResources() for _ in gpus or ()]
        self._indexes: list[Any] = []

    def load(self, database: Block) -> None:
        """Take the block of the database that the next calls of `update` compare with."""
        super().load(database)
        if self._gpus is None:
            return
        dimensions = database.matrix.shape[1]
        for number, (resources, gpu) in enumerate(zip(self._resources, self._gpus, strict=True)):
            if len(self._indexes) == number:
                options = faiss.GpuIndexFlatConfig()
                options.device = gpu
                options.useFloat16 = self._half
                self._indexes.append(faiss.GpuIndexFlatIP(resources, dimensions, options))
            self._indexes[number].reset()
            self._indexes[number].add(database.matrix)

    def candidates(
        self, queries: NDArray[np.float32], count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return columns int64 `[b, count]` of the loaded block and their rounded inner products."""
        if self._gpus is None:
            similarities, columns = faiss.knn(
                queries, self._database.matrix, count, metric=faiss.METRIC_INNER_PRODUCT
            )
            return columns, similarities
        parts = np.array_split(queries, len(self._indexes))
        with ThreadPoolExecutor(len(parts)) as pool:
            results = list(
                pool.map(lambda x, q: x.search(np.ascontiguousarray(q), count), self._indexes, parts)
            )
        return np.concatenate([one[1] for one in results]), np.concatenate([one[0] for one in results])


def candidate_count(k: int) -> int:
    """Return how many candidates are asked for, so that k of them are almost always certain."""
    return k + 1 + max(32, k // 4)

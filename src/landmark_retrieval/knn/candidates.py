"""Engines of other libraries, which return only the largest products: PyTorch and FAISS, on CPU or GPUs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from landmark_retrieval.knn.blocks import Block
from landmark_retrieval.knn.engines import (
    QUERIES_AT_A_TIME,
    Best,
    BlasEngine,
    error_bound,
)
from landmark_retrieval.knn.kernel import select_from_candidates
from landmark_retrieval.knn.products import as_tensor, full_precision
from landmark_retrieval.runtime.compiled import frozen, run_chunks

FAISS_GPU_MAX_K = 2048
"""Most neighbours that FAISS selects on a GPU."""


def candidate_count(k: int) -> int:
    """Return how many candidates are asked for, so that k of them are almost always certain."""
    return k + 1 + max(32, k // 4)


class CandidateEngine(ABC):
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

    @abstractmethod
    def candidates(
        self, queries: NDArray[np.float32], count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the columns of the loaded block with the largest rounded inner products.

        Args:
            queries: float32 `[b, d]`.
            count: wanted of each query, at most the rows of the block.

        Returns:
            Columns int64 `[b, count]` in any order, -1 padded, and their products float32 `[b, count]`.
        """

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


class TorchEngine(CandidateEngine):
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
        self._matrices = [self._on_device(as_tensor(database.matrix), device) for device in self._devices]

    def _on_device(self, matrix: torch.Tensor, device: torch.device) -> torch.Tensor:
        if self._dtype == matrix.dtype:
            return matrix.to(device)
        # Tile by tile, so that there never is a second copy of the block in memory.
        target = torch.empty(matrix.shape, dtype=self._dtype, device=device)
        for start in range(0, len(matrix), self._tile):
            part = matrix[start : start + self._tile]
            target[start : start + self._tile] = part.to(device).to(self._dtype)
        return target

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
            part = as_tensor(queries).to(self._dtype).to(matrix.device)
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


class FaissEngine(CandidateEngine):
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

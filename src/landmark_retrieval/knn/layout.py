"""How a search is cut into blocks that fit its memory, and which engine runs it where."""

from __future__ import annotations

from dataclasses import dataclass

import faiss
import torch

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.knn.blocks import READ_BYTES
from landmark_retrieval.knn.candidates import (
    FAISS_GPU_MAX_K,
    FaissEngine,
    TorchEngine,
    candidate_count,
)
from landmark_retrieval.knn.config import KnnConfig
from landmark_retrieval.knn.engines import BlasEngine, Engine
from landmark_retrieval.knn.kernel import gathered_width
from landmark_retrieval.runtime.compiled import thread_count

GIB = 2**30
CPU_QUERIES, CPU_TILE = 1024, 16384
GPU_QUERIES, GPU_TILE = 4096, 32768
SMALLEST_QUERIES, SMALLEST_TILE = 16, 512
FALLBACK_QUERIES, FALLBACK_TILE = 64, 8192
OVERHEAD = 4 << 20
"""Bytes that threads and small arrays take."""

HEADROOM = 0.05, 16 << 20
"""Share of the memory, and most bytes of it, left to what allocators keep back."""


@dataclass(frozen=True)
class Layout:
    """Sizes of the blocks of a search.

    Attributes:
        queries: rows of a block of queries.
        database: rows of a block of the database.
        tile: rows of the database that are multiplied at a time.
    """

    queries: int
    database: int
    tile: int


@dataclass(frozen=True)
class Target:
    """Where a search runs.

    Attributes:
        engine: `blas`, `torch` or `faiss`.
        gpus: numbers of the GPUs, empty for the CPU.
    """

    engine: str
    gpus: tuple[int, ...]


def choose_target(config: KnnConfig) -> Target:
    """Choose engine and device by what the machine has.

    Raises:
        LandmarkRetrievalError: the configuration asks for a GPU that is not there, or for one with an engine
            that has none.
    """
    faiss_gpus = faiss.get_num_gpus() if hasattr(faiss, "StandardGpuResources") else 0
    torch_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if config.device == "cpu" or (config.device == "auto" and (config.engine == "blas" or not torch_gpus)):
        return Target("blas" if config.engine == "auto" else config.engine, ())
    if config.engine == "blas":
        raise LandmarkRetrievalError("knn: engine 'blas' runs on the CPU; use engine 'auto' or device 'cpu'")
    if not torch_gpus:
        raise LandmarkRetrievalError("knn: device 'gpu' but no GPU was found; use device 'auto' or 'cpu'")
    fits_faiss = faiss_gpus > 0 and candidate_count(config.k) <= FAISS_GPU_MAX_K
    if config.engine == "faiss" and not fits_faiss:
        reason = "FAISS sees no GPU" if not faiss_gpus else f"k = {config.k} is too many for FAISS on a GPU"
        raise LandmarkRetrievalError(f"knn: {reason}; use engine 'torch' or device 'cpu'")
    if config.engine == "torch" or not fits_faiss:
        return Target("torch", tuple(range(torch_gpus)))
    return Target("faiss", tuple(range(faiss_gpus)))


def plan_memory(queries: int, database: int, dimensions: int, config: KnnConfig, gpu: bool = False) -> Layout:
    """Cut a search into blocks so that it takes no more memory than the configuration says.

    Args:
        queries: number of queries.
        database: rows of the database.
        dimensions: of the descriptors.
        config: with the memory.
        gpu: whether the products are computed on a GPU.

    Returns:
        The largest blocks that fit.

    Raises:
        LandmarkRetrievalError: not even the smallest blocks fit.
    """
    threads = thread_count(config.threads)
    result = queries * (config.k * 8 + 16)
    reading = READ_BYTES * 2 * max(threads, 4) + OVERHEAD
    headroom = min(HEADROOM[0] * config.memory_gib * GIB, HEADROOM[1])
    available = config.memory_gib * GIB - headroom - result - reading
    per_row = 4 * dimensions + 16
    rows, tile = (GPU_QUERIES, GPU_TILE) if gpu else (CPU_QUERIES, CPU_TILE)
    rows, tile = max(1, min(rows, queries)), max(1, min(tile, database))

    def fixed() -> int:
        products = rows * tile * 4 * (2 if gpu else 1)
        candidates = rows * candidate_count(config.k) * 16
        fallback = FALLBACK_QUERIES * FALLBACK_TILE * 4 if config.engine != "blas" else 0
        noted = (rows + FALLBACK_QUERIES) * (gathered_width(config.k) * 8 + 8)
        return rows * (per_row + 16) + products + candidates + fallback + noted

    smallest = min(database, SMALLEST_TILE)
    while (fixed() > available / 2 or available - fixed() < smallest * per_row) and (
        rows > SMALLEST_QUERIES or tile > SMALLEST_TILE
    ):
        if rows > SMALLEST_QUERIES and (rows * 4 >= tile or tile <= SMALLEST_TILE):
            rows = max(SMALLEST_QUERIES, rows // 2)
        else:
            tile = max(SMALLEST_TILE, tile // 2)
    block = int((available - fixed()) // per_row)
    if block < smallest:
        needed = (result + reading + fixed() + smallest * per_row) / (1 - HEADROOM[0]) / GIB
        raise LandmarkRetrievalError(
            f"knn: memory_gib = {config.memory_gib:g} is not enough to search {queries} queries with "
            f"k = {config.k} and {dimensions} dimensions; give it at least {needed * 1.01 + 0.001:.3f}"
        )
    return Layout(rows, max(1, min(block, database)), tile)


def make_engine(target: Target, layout: Layout, config: KnnConfig) -> Engine:
    """Return the engine that does the work.

    Args:
        target: engine and GPUs (`choose_target`).
        layout: sizes of the blocks (`plan_memory`).
        config: k, storage and threads.
    """
    threads = thread_count(config.threads)
    if target.engine == "blas":
        return BlasEngine(layout.tile, layout.queries, threads)
    fallback = BlasEngine(min(FALLBACK_TILE, layout.tile), FALLBACK_QUERIES, threads)
    if target.engine == "torch":
        devices = [f"cuda:{number}" for number in target.gpus] or ["cpu"]
        return TorchEngine(
            config.k, devices, config.storage, layout.tile, fallback, FALLBACK_QUERIES, threads
        )
    return FaissEngine(
        config.k, list(target.gpus) or None, config.storage, fallback, FALLBACK_QUERIES, threads
    )

"""Approximate search by FAISS: it proposes candidates, which are scored and ordered as in exact search."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.knn.config import ApproximateConfig, KnnConfig
from landmark_retrieval.knn.exact import SLACK
from landmark_retrieval.knn.matrix import as_tensor, read_rows, row_norms
from landmark_retrieval.knn.neighbors import NeighborLists
from landmark_retrieval.knn.scoring import rounded_products
from landmark_retrieval.runtime.progress import PROGRESS_DELAY
from landmark_retrieval.runtime.threads import library_threads, thread_count

BLOCK_BYTES = 64 << 20
"""Bytes of descriptors that are added to the index, or scored, at a time."""

SEED = 0
"""Of the draw of training rows and of the clustering."""

TRAINING_ROWS = 262_144
"""Rows drawn to learn the centroids of inverted lists, at most."""


def search_approximately(
    queries: NDArray[Any],
    database: NDArray[Any],
    config: KnnConfig,
    excluded: NDArray[np.int64],
    label: str,
    first_row: int = 0,
    database_digest: str | None = None,
) -> NeighborLists:
    """Search with `config.approximate`; some of the true neighbours may be missing.

    Arguments as in `search.search_checked`; with a digest of the database the index is kept for the next
    call.
    """
    key = _IndexKey(database, config, database_digest)
    index = build_index(database, config) if database_digest is None else _index_once(key)
    count = min(config.k + SLACK, len(database))
    shape = (len(queries), config.k)
    found = NeighborLists(np.full(shape, -1, np.int32), np.full(shape, -np.inf, np.float32))
    step = max(1, BLOCK_BYTES // (8 * database.shape[1] * count))
    with (
        library_threads(thread_count(config.threads)),
        tqdm(total=len(queries), desc=label, unit="row", delay=PROGRESS_DELAY) as progress,
    ):
        for start in range(0, len(queries), step):
            part = slice(start, min(start + step, len(queries)))
            block = read_rows(queries, part.start, part.stop, np.float32, config.storage)
            norms = row_norms(as_tensor(block), "queries", first_row + start).numpy()
            rows: NDArray[np.int64] = index.search(np.ascontiguousarray(block), count)[1]
            rows[(norms == 0)[:, None] | (rows == excluded[part, None])] = -1
            rows = np.sort(np.where(rows < 0, len(database), rows), axis=1)
            there = rows < len(database)
            scores = np.full(rows.shape, -np.inf, np.float32)
            candidates = database[rows[there]].astype(config.storage, copy=False)
            scores[there] = rounded_products(block[np.nonzero(there)[0]], candidates)
            order = np.argsort(-scores, axis=1, kind="stable")[:, : config.k]
            found.weights[part, : order.shape[1]] = np.take_along_axis(scores, order, axis=1)
            best = np.take_along_axis(np.where(there, rows, -1), order, axis=1)
            found.neighbors[part, : order.shape[1]] = best
            progress.update(len(block))
    return found


class _IndexKey:
    """A database and options, equal when their digests are."""

    def __init__(self, database: NDArray[Any], config: KnnConfig, content: str | None) -> None:
        self.database = database
        self.config = config
        self._key = (content, config.content_fingerprint())

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _IndexKey) and self._key == other._key


@lru_cache(maxsize=1)
def _index_once(key: _IndexKey) -> Any:
    """Build the index once for all blocks of queries that this process searches."""
    return build_index(key.database, key.config)


def build_index(database: NDArray[Any], config: KnnConfig) -> Any:
    """Return a FAISS index of all rows that have a descriptor, stored as float16.

    Raises:
        LandmarkRetrievalError: the index would not fit in the memory, or a row is not finite.
    """
    options = config.approximate or ApproximateConfig()
    _check_memory(database, options, config.memory_gib)
    inverted, (n, d) = options.method == "ivf", database.shape
    index = _inverted_lists(database, options, config.storage) if inverted else _linked_graph(d, options)
    step = max(1, BLOCK_BYTES // (4 * d))
    # Vertices that enter a graph at the same time find each other or not by chance.
    with library_threads(thread_count(config.threads) if inverted else 1):
        for start in tqdm(range(0, n, step), desc="approximate index", unit="block", delay=PROGRESS_DELAY):
            stop = min(start + step, n)
            block = read_rows(database, start, stop, np.float32, config.storage)
            norms = row_norms(as_tensor(block), "database", start).numpy()
            if norms.any():
                index.add_with_ids(np.ascontiguousarray(block[norms > 0]), start + np.flatnonzero(norms))
    return index


def _check_memory(database: NDArray[Any], options: ApproximateConfig, memory_gib: float) -> None:
    (n, d), inverted = database.shape, options.method == "ivf"
    # Inverted lists grow by doubling.
    vectors = n * (d * 2 * (1.5 if inverted else 2.0) + 16 + (0 if inverted else 8.8 * options.links))
    training = min(n, TRAINING_ROWS) * d * 4 if inverted else 0
    needed = (max(vectors, training) + 4 * BLOCK_BYTES) / 2**30
    if needed > memory_gib:
        raise LandmarkRetrievalError(
            f"knn.approximate: its index of {n} images x {d} dimensions needs {needed:.2f} GiB but "
            f"memory_gib is {memory_gib:g}; raise it, or search exactly, which needs little"
        )


def _inverted_lists(database: NDArray[Any], options: ApproximateConfig, storage: str) -> Any:
    random, d = np.random.default_rng(SEED), database.shape[1]
    drawn = np.sort(random.permutation(len(database))[:TRAINING_ROWS])
    with np.errstate(over="ignore"):
        sample = np.asarray(database[drawn]).astype(storage, copy=False).astype(np.float32, copy=False)
    # Rows that are not finite are named when they are added.
    sample = sample[np.isfinite(sample).all(axis=1) & sample.any(axis=1)]
    lists = max(1, min(options.lists or round(4 * math.sqrt(len(database))), len(sample)))
    half, products = faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    index = faiss.IndexIVFScalarQuantizer(faiss.IndexFlatIP(d), d, lists, half, products, False)
    index.cp.seed = SEED + 1
    index.cp.min_points_per_centroid = 1
    index.nprobe = min(options.probes, lists)
    if len(sample):
        index.train(sample)
    else:  # no image has a descriptor, so nothing will be added
        index.is_trained = True
    return index


def _linked_graph(dimensions: int, options: ApproximateConfig) -> Any:
    # The overload of the type stubs takes a quantizer, the one that exists its type.
    graph: Any = getattr(faiss, "IndexHNSWSQ")(  # noqa: B009
        dimensions, faiss.ScalarQuantizer.QT_fp16, options.links, faiss.METRIC_INNER_PRODUCT
    )
    graph.hnsw.efConstruction = 100
    graph.hnsw.efSearch = options.search_candidates
    graph.is_trained = True
    return faiss.IndexIDMap(graph)

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
from landmark_retrieval.knn.blocks import Reader, release
from landmark_retrieval.knn.candidates import candidate_count
from landmark_retrieval.knn.config import ApproximateConfig, KnnConfig
from landmark_retrieval.knn.engines import QUERIES_AT_A_TIME, Best
from landmark_retrieval.knn.kernel import score_candidates
from landmark_retrieval.knn.neighbors import NeighborLists
from landmark_retrieval.runtime.compiled import frozen, run_chunks, thread_count
from landmark_retrieval.runtime.progress import PROGRESS_DELAY
from landmark_retrieval.runtime.threads import library_threads

BLOCK_BYTES = 64 << 20
"""Bytes of descriptors that are added to the index, or scored again, at a time."""

MAX_QUERIES = 1024
"""Queries that are searched at a time."""


class ApproximateIndex:
    """A FAISS index of all rows that have a descriptor, stored as float16.

    Args:
        database: float32 or float16 `[n, d]`.
        config: with `approximate` set.
    """

    def __init__(self, database: NDArray[Any], config: KnnConfig) -> None:
        options = config.approximate or ApproximateConfig()
        self.threads = thread_count(config.threads)
        _check_memory(database, options, config.memory_gib)
        reader = Reader(database, "database", config.storage, self.threads)
        rows = max(1, BLOCK_BYTES // (4 * database.shape[1]))
        with library_threads(self.threads):
            self.index = (
                _train_lists(database, options, config.storage)
                if options.method == "ivf"
                else _empty_graph(database.shape[1], options)
            )
        # Vertices that enter a graph at the same time find each other or not by chance.
        with library_threads(self.threads if options.method == "ivf" else 1):
            for start in tqdm(
                range(0, len(database), rows), desc="approximate index", unit="block", delay=PROGRESS_DELAY
            ):
                block = reader.read(start, min(start + rows, len(database)), drop_empty=True)
                if len(block):
                    self.index.add_with_ids(block.matrix, block.rows.astype(np.int64))

    def candidates(self, queries: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Return likely neighbours.

        Args:
            queries: float32 `[b, d]`.
            count: wanted of each query.

        Returns:
            int64 `[b, count]` database rows, -1 padded.
        """
        with library_threads(self.threads):
            rows: NDArray[np.int64] = self.index.search(np.ascontiguousarray(queries), count)[1]
        return rows


class _IndexKey:
    """A database and options, equal when their digests are."""

    def __init__(self, database: NDArray[Any], config: KnnConfig, content: str) -> None:
        self.database = database
        self.config = config
        self._key = (content, config.content_fingerprint())

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _IndexKey) and self._key == other._key


@lru_cache(maxsize=1)
def _index_once(key: _IndexKey) -> ApproximateIndex:
    """Build the index once for all blocks of queries that this process searches."""
    return ApproximateIndex(key.database, key.config)


def search_approximately(
    queries: NDArray[Any],
    database: NDArray[Any],
    config: KnnConfig,
    excluded: NDArray[np.int64],
    label: str,
    first_row: int = 0,
    database_digest: str | None = None,
) -> NeighborLists:
    """Search with `config.approximate`; arguments and result as in `search`.

    Weights are exact inner products; some of the true neighbours may be missing.

    Args:
        queries: `[q, d]`.
        database: `[n, d]`.
        config: with `approximate` set.
        excluded: int64 `[q]`, -1 for none.
        label: for the progress bar.
        first_row: row number of the first query, for messages.
        database_digest: content of the database; where given, the index is kept for the next call.
    """
    threads = thread_count(config.threads)
    index = (
        ApproximateIndex(database, config)
        if database_digest is None
        else _index_once(_IndexKey(database, config, database_digest))
    )
    best = Best.empty(len(queries), config.k)
    count = min(candidate_count(config.k), len(database))
    reader = Reader(queries, "queries", config.storage, threads, first_row)
    scored = max(1, BLOCK_BYTES // (4 * database.shape[1] * count))
    with tqdm(total=len(queries), desc=label, unit="row", delay=PROGRESS_DELAY) as progress:
        for start in range(0, len(queries), MAX_QUERIES):
            block = reader.read(start, min(start + MAX_QUERIES, len(queries)))
            found = index.candidates(block.matrix, count)
            found[block.norms == 0] = -1
            found[found == excluded[start : start + len(block), None]] = -1
            for first in range(0, len(block), scored):
                part = slice(first, min(first + scored, len(block)))
                _score(
                    block.matrix[part], found[part], database, config.storage, threads,
                    best.part(start + part.start, start + part.stop),
                )  # fmt: skip
            progress.update(len(block))
    return best.sorted(threads)


def _score(
    queries: NDArray[np.float32],
    found: NDArray[np.int64],
    database: NDArray[Any],
    storage: str,
    threads: int,
    best: Best,
) -> None:
    """Score candidates (-1 for none) exactly and keep the best."""
    rows, places = np.unique(found, return_inverse=True)
    rows, missing = (rows[1:], 1) if rows[0] < 0 else (rows, 0)
    gathered = np.ascontiguousarray(database[rows].astype(storage, copy=False), np.float32)
    release(database)
    columns = (places.reshape(found.shape) - missing).astype(np.int32)
    queries, numbers = frozen(queries), frozen(rows, np.int32)
    block = frozen(gathered)
    run_chunks(
        len(queries),
        QUERIES_AT_A_TIME,
        threads,
        lambda: None,
        lambda _, first, last: score_candidates(
            columns, queries, block, numbers, best.scores, best.rows, first, last
        ),
    )


def _check_memory(database: NDArray[Any], options: ApproximateConfig, memory_gib: float) -> None:
    n, dimensions = database.shape
    links = 0 if options.method == "ivf" else 2.2 * options.links * 4
    training = min(n, options.training_rows) * dimensions * 4 if options.method == "ivf" else 0
    # Inverted lists grow by doubling.
    vectors = n * (dimensions * 2 * (1.5 if options.method == "ivf" else 2.0) + 16 + links)
    needed = (max(vectors, training) + 4 * BLOCK_BYTES) / 2**30
    if needed > memory_gib:
        raise LandmarkRetrievalError(
            f"knn.approximate: its index of {n} images x {dimensions} dimensions needs {needed:.2f} GiB but "
            f"memory_gib is {memory_gib:g}; raise it, or search exactly, which needs little"
        )


def _train_lists(database: NDArray[Any], options: ApproximateConfig, storage: str) -> Any:
    random = np.random.default_rng(options.seed)
    drawn = np.sort(random.permutation(len(database))[: options.training_rows])
    sample = np.empty((len(drawn), database.shape[1]), np.float32)
    rows = max(1, BLOCK_BYTES // (8 * database.shape[1]))
    filled = 0
    for start in range(0, len(drawn), rows):
        with np.errstate(over="ignore"):
            part = database[drawn[start : start + rows]].astype(storage, copy=False).astype(np.float32)
        # Rows that are not finite are named when they are added.
        part = part[np.isfinite(part).all(axis=1) & part.any(axis=1)]
        sample[filled : filled + len(part)] = part
        filled += len(part)
        release(database)
    sample = sample[:filled]
    wanted = options.lists or round(4 * math.sqrt(len(database)))
    lists = max(1, min(wanted, len(sample)))
    quantizer = faiss.IndexFlatIP(database.shape[1])
    index = faiss.IndexIVFScalarQuantizer(
        quantizer,
        database.shape[1],
        lists,
        faiss.ScalarQuantizer.QT_fp16,
        faiss.METRIC_INNER_PRODUCT,
        False,  # no residuals: values are stored as they are
    )
    index.cp.seed = options.seed + 1
    index.cp.min_points_per_centroid = 1
    index.nprobe = min(options.probes, lists)
    if len(sample):
        index.train(sample)
    else:  # no image has a descriptor, so nothing will be added
        index.is_trained = True
    return index


def _empty_graph(dimensions: int, options: ApproximateConfig) -> Any:
    # The overload of the type stubs takes a quantizer, the one that exists its type.
    graph: Any = getattr(faiss, "IndexHNSWSQ")(  # noqa: B009
        dimensions, faiss.ScalarQuantizer.QT_fp16, options.links, faiss.METRIC_INNER_PRODUCT
    )
    graph.hnsw.efConstruction = options.build_candidates
    graph.hnsw.efSearch = options.search_candidates
    graph.is_trained = True
    return faiss.IndexIDMap(graph)

"""Searches in resumable parts: blocks of queries as shards, with the bytes of one uninterrupted search."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landmark_retrieval.configuration import digest
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.knn.config import KnnConfig
from landmark_retrieval.knn.matrix import PortableMatrix, content_digest
from landmark_retrieval.knn.neighbors import KnnGraph, NeighborLists
from landmark_retrieval.knn.search import check_inputs, search_checked
from landmark_retrieval.runtime.sharding import ExecutorConfig, ShardPlan, ShardStore, ShardTask

VERSION = 2
"""Part of every fingerprint; raised when the result of a search changes."""

QUERY_PART, INDEX_PART = "query", "index"


def plan_knn(
    queries: NDArray[Any],
    database: NDArray[Any],
    config: KnnConfig,
    exclude: NDArray[np.int64] | None = None,
    executor: ExecutorConfig | None = None,
    label: str = "nearest neighbours",
) -> ShardPlan:
    """Plan a search whose finished blocks of queries survive a kill.

    Shard arrays: `first` int64 (the first query), `neighbors` int32 and `weights` float32 `[b, k]`.

    Args:
        queries: float32 or float16 `[q, d]`.
        database: float32 or float16 `[n, d]`.
        config: `shard_rows` queries make a shard. Device, memory and threads are no part of the
            fingerprints, as the result does not depend on them.
        exclude: int64 `[q]` as in `search`.
        executor: where shards are computed; in this process, which uses all threads or GPUs, when None. Each
            worker takes the memory of the configuration.
        label: what is searched, for progress bars and messages.

    Returns:
        The plan; `gather` joins what it stores.

    Raises:
        LandmarkRetrievalError: as `search`.
    """
    excluded = check_inputs(queries, database, exclude)
    tasks = _tasks("rows", queries, database, content_digest(database), config, excluded, label)
    metadata = {"queries": len(queries), "database": len(database), "k": config.k}
    return ShardPlan(label, tasks, executor or ExecutorConfig(), metadata, config.content())


def gather(store: ShardStore) -> NeighborLists:
    """Join the shards of `plan_knn`.

    Args:
        store: what the plan has stored.

    Returns:
        The neighbours of all queries, `[q, k]`, as `search` gives them.

    Raises:
        LandmarkRetrievalError: the store is incomplete or holds something else.
    """
    sizes = store.manifest()["metadata"]
    if "queries" not in sizes or "k" not in sizes:
        raise LandmarkRetrievalError(f"{store.root}: holds no search for neighbours; run it again")
    return _gather(store, store.manifest()["shards"], int(sizes["queries"]), int(sizes["k"]))


def plan_knn_graph(
    queries: NDArray[Any],
    index: NDArray[Any],
    config: KnnConfig,
    executor: ExecutorConfig | None = None,
) -> ShardPlan:
    """Plan `build_knn_graph` so that finished blocks survive a kill.

    Args:
        queries: float32 or float16 `[q, d]`.
        index: float32 or float16 `[n, d]`, searched by the queries and by its own rows.
        config: of both searches; `shard_rows` rows make a shard.
        executor: where shards are computed, as in `plan_knn`.

    Returns:
        The plan; its shards have the arrays of `plan_knn`, and `gather_graph` joins them.

    Raises:
        LandmarkRetrievalError: as `search`.
    """
    no_rows = check_inputs(queries, index, None)
    index_digest = content_digest(index)
    own_rows = np.arange(len(index), dtype=np.int64)
    tasks = [
        *_tasks(QUERY_PART, queries, index, index_digest, config, no_rows, "queries in the index"),
        *_tasks(INDEX_PART, index, index, index_digest, config, own_rows, "index in the index"),
    ]
    metadata = {"graph_queries": len(queries), "graph_index": len(index), "k": config.k}
    return ShardPlan("k-NN graph", tasks, executor or ExecutorConfig(), metadata, config.content())


def gather_graph(store: ShardStore) -> KnnGraph:
    """Join the shards of `plan_knn_graph`.

    Args:
        store: what the plan has stored.

    Returns:
        The graph of q queries and n index images, as `build_knn_graph` gives it.

    Raises:
        LandmarkRetrievalError: the store is incomplete or holds something else.
    """
    manifest = store.manifest()
    sizes = manifest["metadata"]
    if "graph_queries" not in sizes:
        raise LandmarkRetrievalError(f"{store.root}: holds no k-NN graph; run the knn_graph pipeline again")
    of_queries, of_index = (
        _gather(
            store, [name for name in manifest["shards"] if name.startswith(part)], int(count), int(sizes["k"])
        )
        for part, count in ((QUERY_PART, sizes["graph_queries"]), (INDEX_PART, sizes["graph_index"]))
    )
    return KnnGraph(of_queries, of_index)


def _tasks(
    name: str,
    queries: NDArray[Any],
    database: NDArray[Any],
    database_digest: str,
    config: KnnConfig,
    excluded: NDArray[np.int64],
    label: str,
) -> list[ShardTask]:
    tasks = []
    whole = PortableMatrix(database)
    for first in range(0, len(queries), config.shard_rows):
        part = slice(first, min(first + config.shard_rows, len(queries)))
        fingerprint = digest(
            VERSION,
            content_digest(queries[part]),
            database_digest,
            content_digest(excluded[part]),
            config.content_fingerprint(),
        )
        compute = partial(
            compute_part,
            PortableMatrix(queries[part]),
            whole,
            config,
            excluded[part],
            first,
            f"{label}, from {first}",
            database_digest,
        )
        tasks.append(ShardTask(f"{name}-{first:09d}", fingerprint, compute))
    return tasks


def compute_part(
    queries: PortableMatrix,
    database: PortableMatrix,
    config: KnnConfig,
    excluded: NDArray[np.int64],
    first: int,
    label: str,
    database_digest: str,
) -> Mapping[str, NDArray[Any]]:
    """Search one block of queries; return the arrays of its shard (`plan_knn`).

    Args:
        queries: `[b, d]` of the block.
        database: `[n, d]`.
        config: of the search.
        excluded: int64 `[b]` database row that must not be returned, -1 for none.
        first: number of the first query.
        label: for the progress bar and messages.
        database_digest: of the database's content, by which an approximate index is kept for more blocks.
    """
    found = search_checked(queries.matrix, database.matrix, config, excluded, label, first, database_digest)
    return {"first": np.array(first, np.int64), "neighbors": found.neighbors, "weights": found.weights}


def _gather(store: ShardStore, names: list[str], count: int, k: int) -> NeighborLists:
    neighbors = np.full((count, k), -1, np.int32)
    weights = np.full((count, k), -np.inf, np.float32)
    done = 0
    for name in names:
        shard = store.read(name)
        if int(shard["first"]) != done or shard["neighbors"].shape[1:] != (k,):
            raise LandmarkRetrievalError(f"{store.root}/{name}: not the block expected here; search again")
        part = slice(done, done + len(shard["neighbors"]))
        neighbors[part], weights[part] = shard["neighbors"], shard["weights"]
        done = part.stop
    if done != count:
        raise LandmarkRetrievalError(f"{store.root}: holds {done} of {count} queries; search again")
    return NeighborLists(neighbors, weights)

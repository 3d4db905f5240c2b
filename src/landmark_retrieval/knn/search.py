"""Exact nearest neighbours by inner product of descriptors that need not fit in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from landmark_retrieval.errors import ArrayError
from landmark_retrieval.knn.config import KnnConfig
from landmark_retrieval.knn.exact import search_exactly
from landmark_retrieval.knn.matrix import check_matrix, check_unit_rows
from landmark_retrieval.knn.neighbors import KnnGraph, NeighborLists


def search(
    queries: NDArray[Any],
    database: NDArray[Any],
    config: KnnConfig,
    exclude: NDArray[np.int64] | None = None,
    label: str = "nearest neighbours",
) -> NeighborLists:
    """Find the k database rows with the largest inner products with each query.

    Descriptors may be memory-mapped and larger than memory. Zero rows ("no descriptor") are never found and
    find nothing. A database of fewer than k rows gives fewer neighbours.

    Args:
        queries: float32 or float16 `[q, d]`.
        database: float32 or float16 `[n, d]`.
        config: see there.
        exclude: int64 `[q]` the one database row that must not be returned for each query (itself), -1 for
            none.
        label: what is searched, for the progress bar and messages.

    Returns:
        Neighbours by falling inner product, ties by lower row, -1 and -inf padded.

    Raises:
        LandmarkRetrievalError: dimensions differ, a descriptor holds NaN (names the row), or the memory does
            not suffice.
    """
    excluded = check_inputs(queries, database, exclude)
    return search_checked(queries, database, config, excluded, label)


def search_checked(
    queries: NDArray[Any],
    database: NDArray[Any],
    config: KnnConfig,
    excluded: NDArray[np.int64],
    label: str,
    first_row: int = 0,
    database_digest: str | None = None,
) -> NeighborLists:
    """Search as `search` does, inputs checked already.

    Args:
        queries: `[q, d]`.
        database: `[n, d]`.
        config: see there.
        excluded: int64 `[q]`, -1 for none.
        label: for the progress bar.
        first_row: row number of the first query, for messages.
        database_digest: content of the database, where an approximate index is to be kept for more queries.
    """
    if config.approximate is not None and len(database) > 0:
        from landmark_retrieval.knn.approximate import search_approximately  # brings FAISS

        return search_approximately(queries, database, config, excluded, label, first_row, database_digest)
    return search_exactly(queries, database, config, excluded, label, first_row)


def check_inputs(
    queries: NDArray[Any], database: NDArray[Any], exclude: NDArray[Any] | None
) -> NDArray[np.int64]:
    """Return the excluded row of each query, int64 `[q]` (-1 for none), after checking all inputs.

    Args:
        queries: `[q, d]`.
        database: `[n, d]`.
        exclude: `[q]` as in `search`; None excludes nothing.

    Raises:
        ArrayError: shapes or types do not fit together.
    """
    check_matrix(queries, "queries")
    check_matrix(database, "database")
    if queries.shape[1] != database.shape[1]:
        raise ArrayError(
            f"queries have {queries.shape[1]} dimensions and the database {database.shape[1]}; "
            "extract both with the same model"
        )
    if exclude is None:
        return np.full(len(queries), -1, np.int64)
    excluded = np.ascontiguousarray(exclude, np.int64)
    if excluded.shape != (len(queries),):
        raise ArrayError(
            f"exclude has shape {excluded.shape} for {len(queries)} queries; give one row each, -1 for none"
        )
    if len(excluded) and not (excluded.min() >= -1 and excluded.max() < len(database)):
        raise ArrayError(
            f"exclude names row {excluded.max()} or {excluded.min()}, outside the database of "
            f"{len(database)} rows; use -1 for none"
        )
    return excluded


def build_knn_graph(queries: NDArray[Any], index: NDArray[Any], config: KnnConfig) -> KnnGraph:
    """Find the nearest index images of every query and of every index image other than itself.

    Args:
        queries: float32 or float16 `[q, d]`, of unit length, or zero for none.
        index: float32 or float16 `[n, d]`, likewise.
        config: of both searches.

    Returns:
        Both lists by falling inner product, ties by lower row, -1 and -inf padded.

    Raises:
        ArrayError: as `search`, or names a row that is not of unit length.
    """
    no_rows = check_inputs(queries, index, None)
    check_unit_rows(queries, "queries")
    check_unit_rows(index, "index")
    of_queries = search_checked(queries, index, config, no_rows, "queries in the index")
    own_rows = np.arange(len(index), dtype=np.int64)
    of_index = search_checked(index, index, config, own_rows, "index in the index")
    return KnnGraph(of_queries, of_index)

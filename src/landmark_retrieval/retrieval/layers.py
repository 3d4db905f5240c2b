"""Matrices and features of a finished run with rows laid over and added, and rows that are gone.

The run's own arrays stay as they are, possibly memory-mapped. Numbers of rows never change: added rows come
behind, those that are gone leave holes that no search finds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from landmark_retrieval.knn import KnnConfig, NeighborLists
from landmark_retrieval.knn.search import check_inputs, search_checked
from landmark_retrieval.local_features import LocalFeatures, LocalFeatureStore

SPARE = 32
"""Neighbours searched beyond those that are wanted, for those among them that are gone."""


@dataclass(frozen=True, eq=False)
class LayeredMatrix:
    """Rows of a run, some of them replaced, some gone, and added ones behind them.

    Attributes:
        base: `[n, d]` of the run.
        top: `[m, d]` rows that replace or follow those of the base.
        rows: int64 `[m]` ascending, the number of each row of `top`; from n on they are added.
        gone: bool `[n + added]` rows that are not there any more.
    """

    base: NDArray[np.floating[Any]]
    top: NDArray[np.floating[Any]]
    rows: NDArray[np.int64]
    gone: NDArray[np.bool_]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows, those that are gone among them, and dimensions."""
        return len(self.gone), int(self.base.shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the values."""
        return self.base.dtype

    def __len__(self) -> int:
        return len(self.gone)

    def __getitem__(self, rows: Any) -> NDArray[np.floating[Any]]:
        """Return rows by their numbers (an array, a slice or one number)."""
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        wanted = np.asarray(rows, np.int64)
        flat = np.atleast_1d(wanted).ravel()
        result = np.zeros((len(flat), self.base.shape[1]), self.base.dtype)
        place = np.searchsorted(self.rows, flat)
        laid = place < len(self.rows)
        laid[laid] = self.rows[place[laid]] == flat[laid]
        result[laid] = self.top[place[laid]]
        under = np.flatnonzero(~laid & (flat < len(self.base)))
        result[under] = self.base[flat[under]]
        return result.reshape(*wanted.shape, self.base.shape[1])

    def search(
        self, queries: NDArray[Any], config: KnnConfig, exclude: NDArray[np.int64] | None = None
    ) -> NeighborLists:
        """Find the nearest rows that are there, exactly as in one matrix of them all.

        Args:
            queries: `[q, d]`.
            config: parameters; `k` neighbours at most.
            exclude: int64 `[q]` the row that is not returned for each query, -1 for none.
        """
        covered = self.gone[: len(self.base)].copy()
        covered[self.rows[self.rows < len(self.base)]] = True
        out = np.full(len(queries), -1, np.int64) if exclude is None else exclude
        lists = [self._search_base(queries, config, covered, out)]
        there = np.flatnonzero(~self.gone[self.rows])
        if len(there):
            place = np.full(len(self) + 1, -1, np.int64)
            place[self.rows[there]] = np.arange(len(there))
            near = _search(queries, self.top[there], config, config.k, place[out])
            lists.append(NeighborLists(_named(near.neighbors, self.rows[there]), near.weights))
        return merge(lists, min(config.k, max(1, len(self))))

    def _search_base(
        self, queries: NDArray[Any], config: KnnConfig, covered: NDArray[np.bool_], out: NDArray[np.int64]
    ) -> NeighborLists:
        """Return the nearest rows of the base that are neither gone nor replaced."""
        if len(self.base) == 0:
            return NeighborLists(
                np.zeros((len(queries), 0), np.int32), np.zeros((len(queries), 0), np.float32)
            )
        inside = np.where(out < len(self.base), out, -1)
        k, n = config.k, len(self.base)
        wanted = min(n, k + (SPARE if covered.any() else 0))
        while True:
            near = _search(queries, self.base, config, wanted, inside)
            usable = near.neighbors >= 0
            usable[usable] = ~covered[near.neighbors[usable]]
            exhausted = wanted >= n or (near.neighbors < 0).any(axis=1)
            if np.all(exhausted | (usable.sum(axis=1) >= k)):
                break
            wanted = min(n, 4 * wanted)
        neighbors = np.where(usable, near.neighbors, -1).astype(np.int32)
        return NeighborLists(neighbors, np.where(usable, near.weights, -np.inf).astype(np.float32))


Matrix = NDArray[np.floating[Any]] | LayeredMatrix
"""Descriptors of an index: of a run as it is, or of what it has become."""


def by_number(matrix: Matrix) -> NDArray[np.floating[Any]]:
    """Return a matrix for functions that only take rows of it by their numbers."""
    return cast("NDArray[np.floating[Any]]", matrix)


def merge(lists: Sequence[NeighborLists], k: int) -> NeighborLists:
    """Return the k best of several lists of different rows, ties by lower row."""
    neighbors = np.concatenate([one.neighbors for one in lists], axis=1)
    weights = np.concatenate([one.weights for one in lists], axis=1)
    weights = np.where(neighbors >= 0, weights, -np.inf)
    rows = np.where(neighbors >= 0, neighbors, np.iinfo(np.int32).max)
    order = np.lexsort((rows, -weights), axis=1)[:, :k]
    result = NeighborLists(
        np.take_along_axis(neighbors, order, axis=1).astype(np.int32),
        np.take_along_axis(weights, order, axis=1).astype(np.float32),
    )
    width = int((result.neighbors >= 0).sum(axis=1).max(initial=0))
    return NeighborLists(result.neighbors[:, :width], result.weights[:, :width])


def _search(
    queries: NDArray[Any], rows: NDArray[Any], config: KnnConfig, k: int, exclude: NDArray[np.int64]
) -> NeighborLists:
    chosen = config.model_copy(update={"k": max(1, min(k, len(rows))), "approximate": None})
    # Any first row but 0: only the first block of a run's search is worth a line in the log.
    return search_checked(queries, rows, chosen, check_inputs(queries, rows, exclude), "neighbours", 1)


def _named(neighbors: NDArray[np.int32], rows: NDArray[np.int64]) -> NDArray[np.int32]:
    return np.where(neighbors >= 0, rows[np.maximum(neighbors, 0)], -1).astype(np.int32)


@dataclass(frozen=True, eq=False)
class LayeredFeatures:
    """Local features of the table of a run, with those of added photos behind its index rows.

    Attributes:
        base: of the run's table.
        at: table row before which the added photos stand.
        added: features of the added photos, by their place among them.
        added_keys: str `[m]` what they are kept by.
    """

    base: LocalFeatureStore
    at: int
    added: Sequence[LocalFeatures]
    added_keys: NDArray[np.str_]
    keys: NDArray[np.str_] = field(init=False)

    def __post_init__(self) -> None:
        before, after = self.base.keys[: self.at], self.base.keys[self.at :]
        object.__setattr__(self, "keys", np.concatenate([before, self.added_keys, after]))

    @property
    def extractor(self) -> str:
        """Name of the extractor."""
        return self.base.extractor

    def get(self, row: int) -> LocalFeatures:
        """Return the features of one image by its table row."""
        if row < self.at:
            return self.base.get(row)
        if row < self.at + len(self.added):
            return self.added[row - self.at]
        return self.base.get(row - len(self.added))

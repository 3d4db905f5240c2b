"""Descriptor matrices: ids beside rows, streamed block by block where they may not fit in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import DTypeLike, NDArray
from pydantic import Field

from landmark_retrieval.configuration import Configuration
from landmark_retrieval.errors import ArrayError, LandmarkRetrievalError
from landmark_retrieval.runtime.store_index import Places

BLOCK_ROWS = 8192
"""Rows handled at a time where a matrix is walked through in blocks."""


@dataclass(frozen=True)
class BlockArray:
    """An array that is produced in blocks of rows, in order, and never held whole.

    `np.asarray(block_array)` materialises it.

    Attributes:
        shape: shape of the whole array.
        dtype: type of its values.
        blocks: consecutive blocks `[b, ...]` whose lengths add up to `shape[0]`; can be iterated repeatedly.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    blocks: Iterable[NDArray[Any]]

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Yield the blocks, converted to `dtype` and checked against `shape`.

        Raises:
            LandmarkRetrievalError: the blocks do not add up to the announced shape.
        """
        rows = 0
        for block in self.blocks:
            if block.shape[1:] != self.shape[1:]:
                raise LandmarkRetrievalError(
                    f"a block of shape {block.shape} does not belong to an array of shape {self.shape}"
                )
            rows += len(block)
            yield block.astype(self.dtype, copy=False)
        if rows != self.shape[0]:
            raise LandmarkRetrievalError(f"blocks hold {rows} rows where {self.shape[0]} were announced")

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        whole = np.empty(self.shape, self.dtype)
        start = 0
        for block in self:
            whole[start : start + len(block)] = block
            start += len(block)
        return whole if dtype is None else whole.astype(dtype, copy=False)


@dataclass(frozen=True)
class Descriptors:
    """One global descriptor for every row of the image table.

    Attributes:
        ids: image ids `[n]`, str.
        matrix: `[n, d]` float32 or float16; rows have unit length or are zero ("no descriptor").
    """

    ids: NDArray[np.str_]
    matrix: NDArray[np.floating[Any]] | BlockArray

    def __post_init__(self) -> None:
        if len(self.matrix.shape) != 2:
            raise ArrayError(
                f"descriptors: an array of shape {tuple(self.matrix.shape)} where "
                "[images, dimensions] is wanted"
            )
        if len(self.ids) != self.matrix.shape[0]:
            raise ArrayError(
                f"descriptors: {len(self.ids)} ids but {self.matrix.shape[0]} rows; they must agree"
            )

    def part(self, rows: slice) -> NDArray[np.floating[Any]]:
        """Return consecutive rows; those of a memory map stay on disk.

        Args:
            rows: table rows, such as those of one split.
        """
        matrix = self.matrix
        return matrix[rows] if isinstance(matrix, np.ndarray) else np.asarray(matrix)[rows]


class BlendConfig(Configuration):
    """How global descriptors are joined into one.

    Attributes:
        weights: factor of each descriptor's inner product in the blend, in the order of the descriptors;
            None weighs all the same.
        storage: number type on disk; float16 halves the size at a relative error of about 5e-4.
    """

    weights: tuple[Annotated[float, Field(ge=0, le=1e6)], ...] | None = Field(default=None, min_length=1)
    storage: Literal["float32", "float16"] = "float32"


class _Repeatable:
    """Calls a generator function anew for every iteration."""

    def __init__(self, generate: Callable[[], Iterator[NDArray[Any]]]) -> None:
        self._generate = generate

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return self._generate()


def iterate_blocks(matrix: NDArray[Any] | BlockArray, rows: int = BLOCK_ROWS) -> Iterator[NDArray[Any]]:
    """Yield consecutive blocks of rows of an array, a memory map or a block array.

    Args:
        matrix: `[n, ...]`.
        rows: rows of a block, the last one may have fewer; a block array keeps its own blocks.
    """
    if isinstance(matrix, BlockArray):
        yield from matrix
    else:
        for start in range(0, len(matrix), rows):
            yield np.asarray(matrix[start : start + rows])


def take_rows(matrix: NDArray[Any] | BlockArray, rows: NDArray[np.int64]) -> NDArray[Any]:
    """Return some rows of a matrix, reading it once and holding no more than the result.

    Args:
        matrix: `[n, d]`.
        rows: int64 `[m]` row numbers, ascending.

    Returns:
        `[m, d]` of the matrix's dtype.
    """
    if not isinstance(matrix, BlockArray):
        return np.asarray(matrix[rows])
    taken = np.empty((len(rows), *matrix.shape[1:]), matrix.dtype)
    start = 0
    for block in matrix:
        first, last = np.searchsorted(rows, [start, start + len(block)])
        taken[first:last] = block[rows[first:last] - start]
        start += len(block)
    return taken


def map_blocks(
    function: Callable[[NDArray[Any]], NDArray[Any]],
    matrix: NDArray[Any] | BlockArray,
    width: int,
    dtype: DTypeLike = np.float32,
) -> BlockArray:
    """Return the lazy result of a row-wise function.

    Args:
        function: takes a block `[b, d]`, returns a block `[b, width]`.
        matrix: `[n, d]`.
        width: columns of the result.
        dtype: type of the result's values.

    Returns:
        `[n, width]`, computed block by block whenever it is iterated.
    """
    return BlockArray(
        (matrix.shape[0], width),
        np.dtype(dtype),
        _Repeatable(lambda: (function(block) for block in iterate_blocks(matrix))),
    )


def make_blocks(
    function: Callable[[slice], NDArray[Any]],
    shape: tuple[int, int],
    dtype: DTypeLike = np.float32,
    rows: int = BLOCK_ROWS,
) -> BlockArray:
    """Return the lazy matrix whose rows a function makes.

    Args:
        function: takes the numbers of consecutive rows, returns these rows.
        shape: shape of the result.
        dtype: type of the result's values.
        rows: rows of a block, the last one may have fewer.

    Returns:
        `shape`, made block by block whenever it is iterated.
    """
    count = shape[0]
    return BlockArray(
        shape,
        np.dtype(dtype),
        _Repeatable(
            lambda: (function(slice(start, min(start + rows, count))) for start in range(0, count, rows))
        ),
    )


def join_rows(parts: Sequence[NDArray[Any] | BlockArray]) -> BlockArray:
    """Return matrices of one width as a lazy one with the rows of all, in order.

    Args:
        parts: each `[n, d]`, at least one; the dtype of the first is that of the result.
    """
    return BlockArray(
        (sum(part.shape[0] for part in parts), *parts[0].shape[1:]),
        parts[0].dtype,
        _Repeatable(lambda: (block for part in parts for block in iterate_blocks(part))),
    )


def gather_results(places: Places, name: str, width: int, dtype: DTypeLike = np.float32) -> BlockArray:
    """Return the rows of results in the store as one lazy array, in the order of their places.

    Args:
        places: of the results; zero rows stand where there is none.
        name: of an array of the shards, `[b, width]`.
        width: columns.
        dtype: type of the values.

    Returns:
        `[n, width]`, read block by block whenever it is iterated.
    """

    def blocks() -> Iterator[NDArray[Any]]:
        for rows in places.runs(BLOCK_ROWS):
            if places.there[rows].any():
                yield places.read(name, rows.start, rows.stop)
            else:
                yield np.zeros((rows.stop - rows.start, width), dtype)

    return BlockArray((len(places.shard), width), np.dtype(dtype), _Repeatable(blocks))


def check_ids(descriptors: Descriptors, table: pd.DataFrame) -> None:
    """Refuse descriptors that were made for another image table.

    Args:
        descriptors: with their ids.
        table: with `image_id`, row for row.

    Raises:
        ArrayError: names the first row whose id differs, or the differing lengths.
    """
    ids = np.asarray(descriptors.ids, dtype=str)
    expected = table["image_id"].to_numpy(dtype=str)
    common = min(len(ids), len(expected))
    different = np.flatnonzero(ids[:common] != expected[:common])
    if len(different):
        row = int(different[0])
        raise ArrayError(
            f"descriptors do not belong to this image table: row {row} is '{ids[row]}' there but "
            f"'{expected[row]}' in the table; run the features pipeline again"
        )
    if len(ids) != len(expected):
        raise ArrayError(
            f"descriptors do not belong to this image table: {len(ids)} rows there but {len(expected)} in "
            "the table; run the features pipeline again"
        )


def normalize_rows(matrix: NDArray[Any]) -> NDArray[Any]:
    """Return float32 rows scaled to unit length; zero and non-finite rows become zero.

    Args:
        matrix: `[n, d]`.
    """
    x = np.asarray(matrix, dtype=np.float32)
    norms = np.linalg.norm(x, axis=1, keepdims=True)
    usable = np.isfinite(norms) & (norms > 0)
    return np.where(usable, x / np.where(usable, norms, 1), np.float32(0))


def blend(parts: Sequence[Descriptors], config: BlendConfig | None = None) -> Descriptors:
    """Concatenate descriptors so that inner products are the weighted mean of those of the parts.

    Rows are L2-normalised. A row that one part could not describe keeps the other parts; it is zero only
    when all parts are.

    Args:
        parts: descriptors of the same images.
        config: weights and storage; defaults when None.

    Returns:
        Descriptors with a lazy matrix `[n, d1 + d2 + ...]`.

    Raises:
        LandmarkRetrievalError: no parts, different ids, or weights that do not fit.
    """
    config = config or BlendConfig()
    if not parts:
        raise LandmarkRetrievalError("blend: no descriptors given")
    weights = config.weights or (1.0,) * len(parts)
    if len(weights) != len(parts) or min(weights) < 0 or max(weights) == 0:
        raise LandmarkRetrievalError(
            f"blend.weights: {list(weights)} does not fit {len(parts)} descriptors; give one weight >= 0 for "
            "each, not all zero"
        )
    for part in parts[1:]:
        check_ids(part, pd.DataFrame({"image_id": parts[0].ids}))
    factors = np.sqrt(np.asarray(weights, dtype=np.float32))

    def blocks() -> Iterator[NDArray[Any]]:
        for together in zip(*(_rechunk(part.matrix) for part in parts), strict=True):
            scaled = [factor * normalize_rows(block) for factor, block in zip(factors, together, strict=True)]
            yield normalize_rows(np.concatenate(scaled, axis=1))

    width = sum(part.matrix.shape[1] for part in parts)
    return Descriptors(
        parts[0].ids,
        BlockArray((len(parts[0].ids), width), np.dtype(config.storage), _Repeatable(blocks)),
    )


def _rechunk(matrix: NDArray[Any] | BlockArray) -> Iterator[NDArray[Any]]:
    """Yield blocks of exactly BLOCK_ROWS rows (the last one may be shorter)."""
    pending: list[NDArray[Any]] = []
    held = 0
    for block in iterate_blocks(matrix):
        start = 0
        while start < len(block):
            piece = block[start : start + BLOCK_ROWS - held]
            pending.append(piece)
            held += len(piece)
            start += len(piece)
            if held == BLOCK_ROWS:
                yield np.concatenate(pending)
                pending, held = [], 0
    if held:
        yield np.concatenate(pending)

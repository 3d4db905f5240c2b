"""Matrices of descriptors, possibly larger than memory: checked, read, digested, sent to workers."""

from __future__ import annotations

import hashlib
import mmap
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from landmark_retrieval.errors import ArrayError, LandmarkRetrievalError

READ_BYTES = 8 << 20
"""Bytes that are read and converted at a time."""

UNIT_TOLERANCE = 1e-3
"""How far from 1 the length of a row may be that counts as normalised; float16 keeps about 5e-4."""

UNIT_ROWS = 16_384
"""Rows whose lengths are computed at a time."""

LARGEST_NORM = 1e18
"""Longer descriptors are refused: their inner products may exceed what float32 can hold."""


def check_matrix(matrix: NDArray[Any], name: str) -> None:
    """Refuse what is not a matrix of descriptors.

    Args:
        matrix: `[n, d]` floating point, d at least 1, n below 2³¹.
        name: what the rows are, for messages.

    Raises:
        ArrayError: not two-dimensional, no columns, too many rows, or not floating point.
    """
    if matrix.ndim != 2 or matrix.shape[1] == 0 or matrix.dtype.kind != "f":
        raise ArrayError(
            f"{name}: shape {matrix.shape} of {matrix.dtype} are not descriptors; "
            "give float32 or float16 [images, dimensions]"
        )
    if len(matrix) > np.iinfo(np.int32).max:
        raise ArrayError(f"{name}: {len(matrix)} rows are more than 2^31 - 1; split them")


def check_unit_rows(matrix: NDArray[Any], what: str) -> None:
    """Refuse a matrix that is not one of descriptors of unit length (or zero, "none").

    Args:
        matrix: `[n, d]`, read in blocks.
        what: for the message.

    Raises:
        ArrayError: names the shape, or the first row of another length.
    """
    check_matrix(matrix, what)
    for start in range(0, len(matrix), UNIT_ROWS):
        block = np.asarray(matrix[start : start + UNIT_ROWS], dtype=np.float32)
        lengths = np.linalg.norm(block, axis=1)
        wrong = np.flatnonzero(~((np.abs(lengths - 1) <= UNIT_TOLERANCE) | (lengths == 0)))
        if len(wrong):
            row = int(wrong[0])
            raise ArrayError(
                f"{what}: row {start + row} has length {lengths[row]:.4g}, not 1; inner products are "
                "similarities only of normalised rows: `descriptors.normalize_rows` scales them"
            )


def read_rows(
    matrix: NDArray[Any], start: int, stop: int, dtype: DTypeLike, storage: DTypeLike = np.float32
) -> NDArray[Any]:
    """Read consecutive rows, rounded to a number type; the pages of a memory map are let go again.

    Args:
        matrix: `[n, d]`, in memory or memory-mapped.
        start: first row.
        stop: row after the last.
        dtype: of the result, float32 or float16.
        storage: number type to which values are rounded before.

    Returns:
        The rows `[m, d]`, contiguous, in native byte order; the matrix itself where it is so already.
    """
    whole = matrix[start:stop]
    mapped = isinstance(matrix, np.memmap)
    as_is = whole.dtype == np.dtype(dtype) and whole.flags.c_contiguous and not mapped
    if as_is and np.dtype(storage).itemsize >= np.dtype(dtype).itemsize:
        return np.asarray(whole)
    values = np.empty(whole.shape, dtype)
    step = max(1, READ_BYTES // (4 * matrix.shape[1]))
    for first in range(0, len(whole), step):
        part = slice(first, first + step)
        with np.errstate(over="ignore", invalid="ignore"):  # such rows are named by `row_norms`
            values[part] = whole[part].astype(storage, copy=False)
        release(matrix)
    return values


def row_norms(values: Tensor, name: str, first_row: int) -> Tensor:
    """Return the Euclidean norm of each row, float32 `[m]`, 0 exactly where a row holds nothing but zeros.

    Args:
        values: `[m, d]` on any device.
        name: what the rows are, for messages.
        first_row: number of row 0, for messages.

    Raises:
        LandmarkRetrievalError: names the first row that holds NaN, infinity or values too large.
    """
    step = max(1, READ_BYTES // values.shape[1])
    norms = torch.cat(
        [torch.linalg.vector_norm(part, dim=1, dtype=torch.float32) for part in torch.split(values, step)]
    )
    bad = (~(norms < LARGEST_NORM)).nonzero()
    if len(bad):
        raise LandmarkRetrievalError(
            f"{name}: row {first_row + int(bad[0])} holds NaN, infinite or huge "
            "numbers; extract its descriptor again or set it to zeros (no descriptor)"
        )
    zero = (norms == 0).nonzero()[:, 0]  # or so small that their squares are
    norms[zero[values[zero].any(dim=1)]] = torch.finfo(torch.float32).tiny
    return norms


def as_tensor(values: NDArray[Any]) -> Tensor:
    """Return a tensor over an array that is only read, without a copy and without a warning."""
    if values.flags.writeable:
        return torch.from_numpy(values)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of writing, which nothing does
        return torch.from_numpy(values)


def release(matrix: NDArray[Any]) -> None:
    """Let the pages of a read-only memory map go; what is read again comes from the file cache."""
    if not isinstance(matrix, np.memmap) or matrix.mode not in ("r", "r+"):
        return
    mapped = matrix._mmap  # type: ignore[attr-defined]
    if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def content_digest(matrix: NDArray[Any]) -> str:
    """Return a digest of shape, type and all values of a matrix, read block by block.

    Reading everything once costs little beside searching it, and a sample would miss single changed rows.
    """
    step = max(1, READ_BYTES // max(1, matrix.itemsize * int(np.prod(matrix.shape[1:]))))
    starts = range(0, len(matrix), step)

    def part_digest(start: int) -> bytes:
        part = np.ascontiguousarray(matrix[start : start + step])
        return hashlib.blake2b(part.data, digest_size=16).digest()

    whole = hashlib.blake2b(f"{matrix.shape} {matrix.dtype.str}".encode(), digest_size=16)
    with ThreadPoolExecutor() as pool:
        for first in range(0, len(starts), 8):
            for one in pool.map(part_digest, starts[first : first + 8]):
                whole.update(one)
            release(matrix)
    return whole.hexdigest()


class PortableMatrix:
    """A matrix that travels to other processes as the name of its file where it is memory-mapped.

    Args:
        matrix: array in memory or memory-mapped, or a slice of one.
    """

    def __init__(self, matrix: NDArray[Any]) -> None:
        self.matrix = matrix

    def __reduce__(self) -> tuple[Any, ...]:
        matrix = self.matrix
        mapped = getattr(matrix, "_mmap", None)
        if not isinstance(matrix, np.memmap) or mapped is None or not matrix.flags.c_contiguous:
            return PortableMatrix, (np.asarray(matrix),)
        file_start = matrix.offset - matrix.offset % mmap.ALLOCATIONGRANULARITY
        inside = matrix.ctypes.data - np.frombuffer(mapped, np.uint8).ctypes.data
        return _map_file, (str(matrix.filename), matrix.dtype.str, matrix.shape, file_start + inside)


def _map_file(path: str, dtype: str, shape: tuple[int, ...], offset: int) -> PortableMatrix:
    return PortableMatrix(np.memmap(path, np.dtype(dtype), "r", offset, shape))

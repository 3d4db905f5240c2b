"""Matrices of descriptors, possibly larger than memory: checked, read, digested, sent to workers."""

from __future__ import annotations

import hashlib
import mmap
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from landmark_retrieval.errors import LandmarkRetrievalError

READ_BYTES = 8 << 20
"""Bytes that are read and converted at a time."""

LARGEST_NORM = 1e18
"""Longer descriptors are refused: their inner products may exceed what float32 can hold."""


def check_matrix(matrix: NDArray[Any], name: str) -> None:
    """Refuse what is not a matrix of descriptors.

    Args:
        matrix: `[n, d]` floating point, d at least 1, n below 2³¹.
        name: what the rows are, for messages.

    Raises:
        LandmarkRetrievalError: not two-dimensional, no columns, too many rows, or not floating point.
    """
    if matrix.ndim != 2 or matrix.shape[1] == 0 or matrix.dtype.kind != "f":
        raise LandmarkRetrievalError(
            f"{name}: shape {matrix.shape} of {matrix.dtype} are not descriptors; "
            "give float32 or float16 [images, dimensions]"
        )
    if len(matrix) > np.iinfo(np.int32).max:
        raise LandmarkRetrievalError(f"{name}: {len(matrix)} rows are more than 2^31 - 1; split them")


def read_rows(
    matrix: NDArray[Any],
    start: int,
    stop: int,
    dtype: DTypeLike,
    name: str,
    first_row: int = 0,
    storage: DTypeLike = np.float32,
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Read consecutive rows, rounded to a number type; the pages of a memory map are let go again.

    Args:
        matrix: `[n, d]`, in memory or memory-mapped.
        start: first row.
        stop: row after the last.
        dtype: of the result, float32 or float16.
        name: what the rows are, for messages.
        first_row: number of row 0, for messages.
        storage: number type to which values are rounded before.

    Returns:
        The rows `[m, d]`, contiguous, in native byte order (the matrix itself where it is so already), and
        their Euclidean norms, 0 for rows without descriptor.

    Raises:
        LandmarkRetrievalError: names the first row that holds NaN, infinity or values too large.
    """
    whole = matrix[start:stop]
    mapped = isinstance(matrix, np.memmap)
    as_is = whole.dtype == np.dtype(dtype) and whole.flags.c_contiguous and not mapped
    as_is &= np.dtype(storage).itemsize >= np.dtype(dtype).itemsize
    values = np.asarray(whole) if as_is else np.empty(whole.shape, dtype)
    norms = np.empty(len(whole), np.float32)
    step = max(1, READ_BYTES // (4 * matrix.shape[1]))
    for first in range(0, len(whole), step):
        part = slice(first, first + step)
        with np.errstate(over="ignore", invalid="ignore"):  # such rows are named below
            if not as_is:
                values[part] = whole[part].astype(storage, copy=False)
            wide = values[part].astype(np.float32, copy=False)
            norms[part] = np.sqrt(np.einsum("nd,nd->n", wide, wide))
        zero = first + np.flatnonzero(norms[part] == 0)  # or so small that its square is
        norms[zero[values[zero].any(axis=1)]] = np.finfo(np.float32).tiny
        if mapped:
            release(matrix)
    bad = np.flatnonzero(~(norms < LARGEST_NORM))
    if len(bad):
        raise LandmarkRetrievalError(
            f"{name}: row {first_row + start + int(bad[0])} holds NaN, infinite or huge "
            "numbers; extract its descriptor again or set it to zeros (no descriptor)"
        )
    return values, norms


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

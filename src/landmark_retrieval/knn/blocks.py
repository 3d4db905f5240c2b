"""Descriptors read block by block: converted, checked, and out of memory again when they are done."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.knn.kernel import row_norms
from landmark_retrieval.runtime.compiled import frozen, run_chunks

READ_BYTES = 2 << 20
"""Bytes that are read and converted at a time."""

LARGEST_NORM = 1e18
"""Longer descriptors are refused: their inner products may exceed what float32 can hold."""

NORM_ROWS = 512
"""Rows whose norms a thread computes at a time."""


@dataclass(frozen=True, eq=False)
class Block:
    """Consecutive rows of a matrix, ready to be compared.

    Attributes:
        matrix: float32 `[m, d]`.
        rows: int32 `[m]` their row numbers, ascending.
        norms: float32 `[m]` Euclidean norms; 0 for rows without descriptor.
    """

    matrix: NDArray[np.float32]
    rows: NDArray[np.int32]
    norms: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.matrix)


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


class Reader:
    """Reads rows of a matrix as float32 into reused memory.

    Args:
        matrix: `[n, d]` floating point, in memory or memory-mapped.
        name: what the rows are, for messages.
        storage: `float32` or `float16`: number type to which values are rounded first.
        threads: most threads to use.
        first_row: number of the first row, for messages.
    """

    def __init__(
        self, matrix: NDArray[Any], name: str, storage: str, threads: int, first_row: int = 0
    ) -> None:
        check_matrix(matrix, name)
        self.matrix = matrix
        self.name = name
        self.storage = storage
        self.threads = threads
        self.first_row = first_row
        self._as_is = (
            storage == "float32"
            and matrix.dtype == np.float32
            and matrix.flags.c_contiguous
            and not isinstance(matrix, np.memmap)
        )
        self._buffer = np.empty((0, matrix.shape[1]), np.float32)

    def read(self, start: int, stop: int, drop_empty: bool = False) -> Block:
        """Return rows start to stop; valid until the next call.

        Args:
            start: first row.
            stop: row after the last.
            drop_empty: whether rows without descriptor are left out.

        Raises:
            LandmarkRetrievalError: names the first row that holds NaN, infinity or values too large.
        """
        values = self._values(start, stop)
        norms = np.empty(len(values), np.float32)
        readable = frozen(values)
        run_chunks(
            len(values),
            NORM_ROWS,
            self.threads,
            lambda: None,
            lambda _, first, last: row_norms(readable, norms, first, last),
        )
        bad = np.flatnonzero(~(norms < LARGEST_NORM))
        if len(bad):
            raise LandmarkRetrievalError(
                f"{self.name}: row {self.first_row + start + int(bad[0])} holds NaN, infinite or huge "
                "numbers; extract its descriptor again or set it to zeros (no descriptor)"
            )
        rows = np.arange(start, stop, dtype=np.int32)
        empty = norms == 0
        if drop_empty and empty.any():
            # Rows are only ever moved forward, so this needs no second copy of the block.
            kept = np.flatnonzero(~empty)
            target = values.copy() if self._as_is else values
            for to in range(0, len(kept), NORM_ROWS):
                source = kept[to : to + NORM_ROWS]
                target[to : to + len(source)] = values[source]
            values, rows, norms = target[: len(kept)], rows[kept], norms[kept]
        return Block(values, rows, norms)

    def _values(self, start: int, stop: int) -> NDArray[np.float32]:
        if self._as_is:
            return self.matrix[start:stop]
        count = stop - start
        if len(self._buffer) < count:
            self._buffer = np.empty((count, self.matrix.shape[1]), np.float32)
        target = self._buffer[:count]
        step = max(1, READ_BYTES // (self.matrix.shape[1] * self.matrix.dtype.itemsize))

        def convert(_: None, first: int, last: int) -> None:
            part = self.matrix[start + first : start + last]
            with np.errstate(over="ignore"):  # infinities are reported by row
                target[first:last] = part.astype(np.float16) if self.storage == "float16" else part

        # Memory-mapped pages would count as this process's memory until the system wants them back.
        group = step * max(self.threads, 4)
        for first in range(0, count, group):
            size = min(group, count - first)
            run_chunks(
                size,
                step,
                self.threads,
                lambda: None,
                lambda w, a, b, first=first: convert(w, first + a, first + b),  # type: ignore[misc]
            )
            release(self.matrix)
        return target


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

    def parts() -> Iterator[NDArray[Any]]:
        for start in range(0, len(matrix), step):
            yield matrix[start : start + step]

    def part_digest(part: NDArray[Any]) -> bytes:
        return hashlib.blake2b(np.ascontiguousarray(part).data, digest_size=16).digest()

    whole = hashlib.blake2b(f"{matrix.shape} {matrix.dtype.str}".encode(), digest_size=16)
    group: list[NDArray[Any]] = []
    with ThreadPoolExecutor() as pool:
        for part in parts():
            group.append(part)
            if len(group) == 8:
                for one in pool.map(part_digest, group):
                    whole.update(one)
                group = []
                release(matrix)
        for one in pool.map(part_digest, group):
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

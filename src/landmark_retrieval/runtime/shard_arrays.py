"""Parts of the arrays of one stored shard, read from their place in the file without reading the rest."""

from __future__ import annotations

import hashlib
import math
import struct
import zipfile
import zlib
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

LOCAL_HEADER = 30
"""Bytes of a zip entry's local header before its name (APPNOTE 6.3, section 4.3.7)."""


class ShardArrays:
    """The arrays of an open `.npz` file whose members are stored, not compressed (`numpy.savez`).

    Args:
        file: open for reading bytes, seekable.

    Raises:
        ValueError: the file is no such archive (also `zipfile.BadZipFile`).
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._members: dict[str, zipfile.ZipInfo] = {}
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                if member.compress_type != zipfile.ZIP_STORED:
                    raise ValueError(f"{member.filename} is compressed")
                self._members[member.filename.removesuffix(".npy")] = member

    def rows(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Return rows start to stop of an array, all of them without limits.

        Args:
            name: of the array.
            start: first row.
            stop: row after the last, None for the end.

        Returns:
            `[stop - start, ...]` of the stored dtype, read-only.

        Raises:
            ValueError: there is no such array, or the file ends before the rows do.
        """
        shape, dtype = self._find(name)
        stop = shape[0] if stop is None else stop
        if not 0 <= start <= stop <= shape[0]:
            raise ValueError(f"array '{name}' has {shape[0]} rows, not {start} to {stop}")
        size = dtype.itemsize * math.prod(shape[1:])
        self._file.seek(start * size, 1)
        values = np.frombuffer(self._read((stop - start) * size), dtype)
        return values.reshape(stop - start, *shape[1:])

    def mapped(self, name: str) -> NDArray[Any] | None:
        """Return an array mapped into memory for longer than the file is open; None if it is no local file.

        Args:
            name: of the array.

        Raises:
            ValueError: as of `rows`.
        """
        try:
            self._file.fileno()
        except (OSError, AttributeError):
            return None
        shape, dtype = self._find(name)
        if not math.prod(shape):
            return np.zeros(shape, dtype)
        return np.asarray(np.memmap(self._file, dtype, "r", self._file.tell(), shape))

    def _find(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Return shape and type of an array; the file then stands at its values."""
        if name not in self._members:
            raise ValueError(f"no array '{name}'")
        begin = self._members[name].header_offset
        self._file.seek(begin)
        header = self._read(LOCAL_HEADER)
        self._file.seek(begin + LOCAL_HEADER + sum(struct.unpack("<HH", header[26:30])))
        version = np.lib.format.read_magic(self._file)
        read = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, fortran_order, dtype = read(self._file)
        if dtype.hasobject or (fortran_order and len(shape) > 1):
            raise ValueError(f"array '{name}' is not stored by rows")
        return shape, dtype

    def _read(self, size: int) -> bytes:
        content = self._file.read(size)
        if len(content) < size:
            raise ValueError("the file is cut off")
        return content


def is_as_written(file: IO[bytes], checksum: str) -> bool:
    """Tell whether a shard holds what was written.

    Args:
        file: opened at its start.
        checksum: SHA-256 in hexadecimal digits; "" for a shard of an earlier version, which has one for
            each of its arrays only.
    """
    if checksum:
        return hashlib.file_digest(file, "sha256").hexdigest() == checksum  # type: ignore[arg-type]
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, OSError, EOFError, zlib.error):
        return False

"""Files of the store on any file system that fsspec knows: whole, or not there at all."""

from __future__ import annotations

import hashlib
import io
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import fsspec
import numpy as np
from fsspec.implementations.local import LocalFileSystem
from numpy.typing import NDArray

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.runtime.files import NO_SPACE
from landmark_retrieval.runtime.files import NoSpaceError as NoSpaceError
from landmark_retrieval.runtime.files import sync as sync_to_disk

Arrays = Mapping[str, NDArray[Any]]

FORMAT = 1
"""Version of the layout of shards; a shard of another one is named and its results are computed again."""

SHARD = ".npz"
TEMPORARY = ".tmp"

KEYS, SECONDS, REASONS, OFFSETS = "keys", "seconds", "reasons", "offsets"
PARTS = "parts."
"""Arrays of this prefix hold `offsets[i]` to `offsets[i + 1]` of result i, all others hold one row of it."""


@dataclass(frozen=True)
class Folder:
    """A folder on any file system.

    Attributes:
        url: path or fsspec URL (`s3://bucket/folder`), without a slash at the end.
    """

    url: str

    def below(self, folder: Path) -> str:
        """Return the address, for a local folder inside another one as seen from that."""
        path = Path(self.url)
        inside = "://" not in self.url and path.is_absolute() and path.is_relative_to(folder)
        return str(path.relative_to(folder)) if inside else self.url

    def __truediv__(self, name: str) -> Folder:
        return Folder(f"{self.url}/{name}")

    @property
    def fs(self) -> fsspec.AbstractFileSystem:
        """The file system.

        Raises:
            LandmarkRetrievalError: there is none of this name, or its package is missing.
        """
        try:
            return fsspec.core.url_to_fs(self.url)[0]
        except ImportError as error:
            reason = " ".join(str(error).split())
            raise LandmarkRetrievalError(
                f"{self.url}: the package of this file system is missing ({reason})"
            ) from None
        except ValueError as error:
            raise LandmarkRetrievalError(
                f"{self.url}: no such file system ({' '.join(str(error).split())}); "
                "fsspec knows file, s3, gs and others"
            ) from None

    def path(self, name: str) -> str:
        """Return the path of a file inside the file system."""
        return f"{fsspec.core.url_to_fs(self.url)[1]}/{name}"

    def make(self) -> None:
        """Make the folder where it is missing."""
        self.fs.makedirs(self.path("").rstrip("/"), exist_ok=True)

    def listing(self) -> dict[str, dict[str, Any]]:
        """Return what lies in the folder by name, as fsspec describes it; nothing where it is missing."""
        try:
            found = self.fs.ls(self.path("").rstrip("/"), detail=True, refresh=True)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        return {entry["name"].rstrip("/").rsplit("/", 1)[-1]: entry for entry in found}

    def open(self, name: str) -> IO[bytes]:
        """Open a file for reading, a local one without anything in between."""
        if "://" not in self.url:
            return Path(self.url, name).open("rb")
        opened: IO[bytes] = self.fs.open(self.path(name), "rb")
        return opened

    def read(self, name: str) -> bytes:
        """Return the bytes of a file."""
        if "://" in self.url:  # an open file of a remote store ends where its listing said, which may be old
            return bytes(self.fs.cat_file(self.path(name)))
        with self.open(name) as file:
            return file.read()

    def write(self, name: str, content: bytes, token: str = "", sync: bool = True) -> None:
        """Write a file under a temporary name, see it safely on disk, and give it its name.

        Args:
            name: of the file; what has it is replaced.
            content: all its bytes.
            token: of the run that writes, by which a temporary file that was left is known.
            sync: whether it must outlast a power cut.

        Raises:
            NoSpaceError: the file system is full.
            LandmarkRetrievalError: it cannot be written otherwise.
        """
        temporary = self.path(f".{token}-{uuid.uuid4().hex}{TEMPORARY}")
        try:
            if isinstance(self.fs, LocalFileSystem):
                with Path(temporary).open("wb") as file:
                    file.write(content)
                    if sync:
                        file.flush()
                        os.fsync(file.fileno())
                Path(temporary).replace(self.path(name))
                if sync:
                    sync_to_disk(Path(temporary).parent)
            else:
                self.fs.pipe_file(temporary, content)
                self.fs.mv(temporary, self.path(name))
        except OSError as error:
            self.remove(temporary.rsplit("/", 1)[-1])
            if error.errno in NO_SPACE:
                raise NoSpaceError(f"{self.url}: no space is left there") from None
            raise LandmarkRetrievalError(
                f"{self.url}/{name}: cannot be written ({error.strerror or error})"
            ) from None

    def remove(self, name: str) -> None:
        """Remove a file where it is there."""
        try:
            self.fs.rm_file(self.path(name))
        except FileNotFoundError:
            return
        except OSError as error:
            raise LandmarkRetrievalError(
                f"{self.url}/{name}: cannot be deleted ({error.strerror or error})"
            ) from None


def state_of(entry: Mapping[str, Any]) -> str:
    """Return what tells that a listed file may have changed: its size, times and tags."""
    names = ("size", "mtime", "created", "LastModified", "ETag", "updated", "md5Hash")
    return " ".join(str(entry[name]) for name in names if entry.get(name) is not None)


def pack(arrays: Arrays) -> tuple[str, bytes]:
    """Return the name and the bytes of a shard; the name is the digest of the bytes."""
    buffer = io.BytesIO()
    by_rows = {name: np.ascontiguousarray(values) for name, values in arrays.items()}
    np.savez(buffer, format=np.array([FORMAT]), **by_rows)  # type: ignore[arg-type]
    content = buffer.getvalue()
    return name_of(content), content


def name_of(content: bytes) -> str:
    """Return the name of a shard: 32 hexadecimal digits of the SHA-256 of all its bytes."""
    return hashlib.sha256(content).hexdigest()[:32] + SHARD


class BadShardError(Exception):
    """A shard cannot be used; the message says why."""


def unpack(name: str, content: bytes) -> dict[str, NDArray[Any]]:
    """Return the arrays of a shard once all its bytes are seen to be those that were written.

    Raises:
        BadShardError: says why it cannot be used.
    """
    if not content:
        raise BadShardError("is empty")
    if name_of(content) != name:
        raise BadShardError("is cut off or damaged (its bytes do not fit the digest in its name)")
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as shard:
            arrays = {member: shard[member] for member in shard.files}
    except Exception as error:  # the decoders raise many types
        raise BadShardError(f"is no shard ({type(error).__name__})") from None
    version = arrays.pop("format", None)
    if version is None or version.tolist() != [FORMAT] or KEYS not in arrays:
        found = "none" if version is None else " ".join(map(str, version.tolist()))
        raise BadShardError(f"is of another version (layout {found}, this is {FORMAT})")
    return arrays


def keep_rows(arrays: Arrays, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Return the arrays of some results of a shard, in the order of `rows`."""
    kept = {name: values[rows] for name, values in arrays.items() if not _is_ragged(name)}
    if OFFSETS in arrays:
        starts, stops = arrays[OFFSETS][:-1][rows], arrays[OFFSETS][1:][rows]
        kept[OFFSETS] = np.concatenate([[0], np.cumsum(stops - starts)]).astype(np.int64)
        spans = [np.arange(start, stop) for start, stop in zip(starts, stops, strict=True)]
        chosen = np.concatenate([np.zeros(0, np.int64), *spans]).astype(np.int64)
        kept |= {name: values[chosen] for name, values in arrays.items() if name.startswith(PARTS)}
    return kept


def _is_ragged(name: str) -> bool:
    return name == OFFSETS or name.startswith(PARTS)

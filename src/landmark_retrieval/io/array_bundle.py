"""Kedro dataset of a dataclass of arrays: a folder of memory-mappable `.npy` files and a small JSON file."""

from __future__ import annotations

import dataclasses
import errno
import glob
import json
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
from kedro.io import AbstractDataset
from kedro.utils import load_obj
from numpy.typing import NDArray

from landmark_retrieval.io.errors import ArtifactError, one_line, passed_on
from landmark_retrieval.io.previews import TablePreview
from landmark_retrieval.runtime.bundle import FORMAT, INDEX, bytes_of, field_names, read_bundle, read_layout
from landmark_retrieval.runtime.files import space_in_words, sync

LEFT = 3600.0
"""Seconds without a write after which an unfinished save is one that was killed."""


class NotStorableError(TypeError):
    """A value that an array bundle cannot hold."""


class ArrayBundleDataset(AbstractDataset[Any, Any]):
    """A dataclass whose fields are arrays, scalars or such dataclasses again, stored as a local folder.

    Array fields become `<field>.npy` (`<field>.<field of its bundle>.npy` for a bundle in the bundle),
    scalars (str, int, float, bool, None and tuples of them) go to `bundle.json`. Arrays that come in blocks
    (an object with `shape`, `dtype` and `blocks`, whose iterator gives blocks of rows) are streamed to disk
    and never held whole. Saving is atomic: the old artifact stays until the new one is complete. Loaded
    arrays are read-only, and memory-mapped from 1 MiB on.

    Args:
        filepath: the folder, on a local or mounted file system (`file://` is fine): arrays are mapped into
            memory, which no object store can do. Shards may lie anywhere (`ShardedDataset`).
        bundle: dotted path of the dataclass, such as `landmark_retrieval.knn.KnnGraph`.
        metadata: for plugins such as kedro-viz.
    """

    def __init__(self, *, filepath: str, bundle: str, metadata: dict[str, Any] | None = None) -> None:
        protocol, path = fsspec.core.split_protocol(str(filepath))
        self._remote = None if protocol in (None, "file", "local") else str(filepath)
        self._folder = Path(path)
        self._bundle = bundle
        self.metadata = metadata

    def load(self) -> Any:
        """Return the stored bundle.

        Raises:
            ArtifactError: nothing is stored, a file is missing or damaged, or the stored fields are not the
                class's fields (the artifact was made by another version).
        """
        self._check_local()
        self._recover()
        with passed_on():
            return read_bundle(self._folder, self._class())

    def save(self, data: Any) -> None:
        """Store a bundle in place of the one that is there.

        Raises:
            ArtifactError: the data is not of the bundle's class, a field cannot be stored, or the folder
                holds something else.
        """
        self._check_local()
        if not isinstance(data, self._class()):
            raise ArtifactError(f"{self._folder}: expected {self._bundle}, got {type(data).__name__}")
        self._recover()
        if self._folder.exists() and not _is_replaceable(self._folder):
            raise ArtifactError(
                f"{self._folder}: is there already and is no array bundle; move it away or change the "
                "catalog's filepath"
            )
        for leftover in self._siblings("tmp"):
            if _untouched(leftover) > LEFT:  # else another run may be writing it
                shutil.rmtree(leftover, ignore_errors=True)
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        token = uuid.uuid4().hex
        temporary = self._folder.with_name(f".{self._folder.name}.{token}.tmp")
        try:
            with passed_on(), space_in_words(self._folder):
                temporary.mkdir()
                self._write(data, temporary)
                for file in [*temporary.iterdir(), temporary]:
                    sync(file)
                self._replace(temporary, token)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def preview(self) -> TablePreview:
        """Return fields, types and shapes for kedro-viz."""
        with passed_on():
            index = read_layout(self._folder)
        rows: list[list[Any]] = [
            [name, facts["dtype"], " x ".join(map(str, facts["shape"])), f"{bytes_of(facts) / 2**20:.2f} MiB"]
            for name, facts in index["arrays"].items()
        ]
        rows += [[name, type(value).__name__, str(value), ""] for name, value in index["values"].items()]
        return TablePreview(
            {
                "index": list(range(len(rows))),
                "columns": ["field", "type", "shape or value", "size"],
                "data": rows,
            }
        )

    def _check_local(self) -> None:
        if self._remote is not None:
            raise ArtifactError(
                f"{self._remote}: array bundles are mapped into memory and must lie in a local or mounted "
                "folder; change the catalog's filepath (shards may stay in the object store)"
            )

    def _class(self) -> type[Any]:
        try:
            found = load_obj(self._bundle)
        except (ImportError, AttributeError, ValueError) as error:
            raise ArtifactError(
                f"{self._folder}: bundle '{self._bundle}' cannot be imported ({one_line(error)})"
            ) from error
        if not (isinstance(found, type) and dataclasses.is_dataclass(found)):
            raise ArtifactError(f"{self._folder}: bundle '{self._bundle}' is not a dataclass")
        return found

    def _write(self, data: Any, folder: Path) -> None:
        arrays: dict[str, dict[str, Any]] = {}
        values: dict[str, Any] = {}
        for name in sorted(field_names(type(data))):
            value = attrgetter(name)(data)
            if _is_scalar(value) or (isinstance(value, tuple) and all(map(_is_scalar, value))):
                values[name] = _plain(value)
                continue
            try:
                dtype, shape = _write_array(folder / f"{name}.npy", value)
            except NotStorableError as error:
                raise ArtifactError(
                    f"{self._folder}: field '{name}' of {self._bundle} cannot be stored ({one_line(error)})"
                ) from error
            arrays[name] = {"dtype": dtype.str, "shape": list(shape)}
        index = {"format": FORMAT, "bundle": self._bundle, "arrays": arrays, "values": values}
        (folder / INDEX).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")

    def _replace(self, temporary: Path, token: str) -> None:
        """Put the complete folder in place; after a crash half way `_recover` finds the old one."""
        while True:
            old = self._folder.with_name(f".{self._folder.name}.{token}.old")
            if self._folder.exists():
                with suppress(FileNotFoundError):
                    self._folder.rename(old)
            try:
                temporary.rename(self._folder)
                break
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                token = uuid.uuid4().hex  # another run has just put its own there: replace that, too
        sync(self._folder.parent)
        for leftover in self._siblings("old"):
            shutil.rmtree(leftover, ignore_errors=True)

    def _recover(self) -> None:
        """Bring back the artifact that a crash left half way through being replaced."""
        olds = self._siblings("old")
        if olds and not self._folder.exists():
            with suppress(OSError):  # another run has just put its own there
                max(olds, key=lambda old: old.stat().st_mtime).rename(self._folder)

    def _siblings(self, kind: str) -> list[Path]:
        """Return the folders beside this one that an unfinished save left."""
        return list(self._folder.parent.glob(f".{glob.escape(self._folder.name)}.{'?' * 32}.{kind}"))

    def _exists(self) -> bool:
        if self._remote is not None:
            return False
        self._recover()
        return (self._folder / INDEX).is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._remote or str(self._folder), "bundle": self._bundle}


def _is_replaceable(folder: Path) -> bool:
    """Return whether a folder holds nothing but what this dataset writes."""
    return folder.is_dir() and all(file.name == INDEX or file.suffix == ".npy" for file in folder.iterdir())


def _untouched(folder: Path) -> float:
    """Return the seconds since anything in a folder was written, 0 if it has just gone."""
    try:
        return time.time() - max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
    except FileNotFoundError:
        return 0.0


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, (str, bool, int, float, np.bool_, np.integer, np.floating))


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def _write_array(file: Path, value: Any) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """Write an array, or the blocks of one, as `.npy`; return its type and shape."""
    if not (hasattr(value, "shape") and hasattr(value, "dtype")):
        raise NotStorableError(f"{type(value).__name__} is neither an array nor a plain value")
    if isinstance(value, np.ndarray) or not hasattr(value, "blocks"):
        array = _storable(np.asarray(value))
        np.save(file, array, allow_pickle=False)
        return array.dtype, array.shape
    dtype, shape = np.dtype(value.dtype), tuple(int(side) for side in value.shape)
    if dtype.hasobject or dtype.kind == "T":
        raise NotStorableError(f"blocks of type {dtype} cannot be streamed")
    rows = 0
    with file.open("wb") as stream:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)
        for block in _blocks(value):
            if block.shape[1:] != shape[1:]:
                raise NotStorableError(f"a block of shape {block.shape} in an array of shape {shape}")
            np.ascontiguousarray(block, dtype=dtype).tofile(stream)
            rows += len(block)
    if rows != shape[0]:
        raise NotStorableError(f"its blocks have {rows} rows, its shape says {shape[0]}")
    return dtype, shape


def _blocks(value: Any) -> Iterator[NDArray[Any]]:
    return (np.asarray(block) for block in (value if hasattr(value, "__iter__") else value.blocks))


def _storable(array: NDArray[Any]) -> NDArray[Any]:
    """Return text as fixed-width unicode, the only text that loads without pickle and can be mapped."""
    if not array.dtype.hasobject and array.dtype.kind != "T":
        return array
    if not all(isinstance(item, str) for item in array.flat):
        raise NotStorableError(
            f"an array of Python objects ({array.dtype}); only numbers and text can be stored"
        )
    text = array.astype(object).astype(np.str_)
    if any(item.endswith("\0") for item in array.flat):
        raise NotStorableError("text that ends in null characters")
    return text

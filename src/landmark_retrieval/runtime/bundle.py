"""Reading a dataclass of arrays from its folder: memory-mappable `.npy` files and a small JSON file.

Runs store such bundles by `landmark_retrieval.io.ArrayBundleDataset`; here they are read without Kedro.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import numpy as np
from numpy.typing import NDArray

from landmark_retrieval.errors import LandmarkRetrievalError

INDEX = "bundle.json"
"""File that names the bundle's class and lists its arrays and scalars."""

FORMAT = 1
"""Version of the layout on disk."""

MAPPED_FROM_BYTES = 1 << 20
"""Arrays at least this large are memory-mapped; smaller ones are read."""

Bundle = TypeVar("Bundle")


def read_bundle(folder: Path, bundle: type[Bundle]) -> Bundle:
    """Return a stored bundle; arrays are read-only, and memory-mapped from 1 MiB on.

    Args:
        folder: where it lies.
        bundle: its dataclass.

    Raises:
        LandmarkRetrievalError: nothing is stored, a file is missing or damaged, or the stored fields are not
            the class's fields (the artifact was made by another version).
    """
    index = read_layout(folder)
    expected = field_names(bundle)
    stored = {*index["arrays"], *index["values"]}
    if stored != expected:
        raise LandmarkRetrievalError(
            f"{folder}: holds the fields {', '.join(sorted(stored))} but {bundle.__module__}."
            f"{bundle.__qualname__} has {', '.join(sorted(expected))}; delete it and run its pipeline again"
        )
    arrays = {name: _read_array(folder, name, facts) for name, facts in index["arrays"].items()}
    values = {
        name: tuple(value) if isinstance(value, list) else value for name, value in index["values"].items()
    }
    found: Bundle = _assembled(bundle, {**arrays, **values})
    return found


def read_layout(folder: Path) -> dict[str, Any]:
    """Return which arrays and values a stored bundle has.

    Raises:
        LandmarkRetrievalError: nothing is stored, or its JSON file is damaged.
    """
    file = folder / INDEX
    try:
        index: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        version = index["format"]
        complete = isinstance(index["arrays"], dict) and isinstance(index["values"], dict)
    except (FileNotFoundError, NotADirectoryError):
        if folder.is_dir() and next(folder.iterdir(), None) is not None:
            raise damaged(folder, f"{INDEX} is missing") from None
        raise LandmarkRetrievalError(f"{folder}: not stored yet; run its pipeline first") from None
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise damaged(file, error) from error
    if version != FORMAT or not complete:
        raise damaged(file, f"layout {version}, expected {FORMAT}")
    return index


def damaged(file: str | Path, reason: object) -> LandmarkRetrievalError:
    """Return the error for a file that cannot be read back.

    Args:
        file: the file that is off.
        reason: what was found, an exception or words.
    """
    return LandmarkRetrievalError(
        f"{file}: damaged ({one_line(reason)}); delete it and run its pipeline again"
    )


def one_line(reason: object) -> str:
    """Return an exception (or words) as a single line, never empty."""
    text = " ".join(str(reason).split())
    if isinstance(reason, BaseException) and not text:
        return type(reason).__name__
    return text


def field_names(bundle: type[Any]) -> set[str]:
    """Return the fields of a bundle; those of a bundle in it are `<its field>.<field>`."""
    names = {field.name for field in dataclasses.fields(bundle) if field.init}
    for name, inner in _inner_bundles(bundle).items():
        names = names - {name} | {f"{name}.{field}" for field in field_names(inner)}
    return names


def bytes_of(facts: dict[str, Any]) -> int:
    """Return how large an array of a layout is."""
    return int(np.prod(facts["shape"], dtype=np.int64) * np.dtype(facts["dtype"]).itemsize)


def _read_array(folder: Path, name: str, facts: dict[str, Any]) -> NDArray[Any]:
    file = folder / f"{name}.npy"
    try:
        mapped = bytes_of(facts) >= MAPPED_FROM_BYTES
        array: NDArray[Any] = np.load(file, mmap_mode="r" if mapped else None, allow_pickle=False)
        if [array.dtype.str, list(array.shape)] != [facts["dtype"], facts["shape"]]:
            raise ValueError(
                f"{array.dtype.str} {list(array.shape)} where {facts['dtype']} {facts['shape']} was saved"
            )
    except FileNotFoundError:
        raise damaged(folder, f"{file.name} is missing") from None
    except (PermissionError, MemoryError):
        raise
    except Exception as error:  # the decoder raises many types on damaged files
        raise damaged(file, error) from error
    array.flags.writeable = False
    return array


def _inner_bundles(bundle: type[Any]) -> dict[str, type[Any]]:
    """Return the fields that hold a bundle, with its class."""
    types = get_type_hints(bundle)
    return {
        field.name: types[field.name]
        for field in dataclasses.fields(bundle)
        if field.init and dataclasses.is_dataclass(types[field.name])
    }


def _assembled(bundle: type[Any], values: dict[str, Any]) -> Any:
    """Return a bundle of the values of its `field_names`."""
    own = {name: value for name, value in values.items() if "." not in name}
    for name, inner in _inner_bundles(bundle).items():
        start = f"{name}."
        parts = {field.removeprefix(start): values[field] for field in values if field.startswith(start)}
        own[name] = _assembled(inner, parts)
    return bundle(**own)

"""Readers of descriptor files: NumPy, Parquet, TexMex (`.fvecs`, `.bvecs`), and HDF5 of hloc.

A reader gives the rows as they are stored, and the ids where the file holds them. Which image each row
belongs to, and whether the rows are fit for use, is decided by `descriptors.imported`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from landmark_retrieval.errors import LandmarkRetrievalError

ID_NAMES = ("image_id", "id", "ids", "image_ids", "name", "names")
"""What ids are called in a table or an archive; the first one that is there counts."""

HLOC_GLOBAL = "global_descriptor"
"""Name under which hloc stores the global descriptor of an image."""


@dataclass(frozen=True, eq=False)
class DescriptorFile:
    """What a descriptor file holds.

    Attributes:
        path: path of the file.
        matrix: `[n, d]` as stored; of `.npy` and `.fvecs` a memory map.
        ids: str `[n]` from the file or from a list beside it, None where neither has any.
        ids_from: where the ids were read, in words.
    """

    path: Path
    matrix: NDArray[Any]
    ids: NDArray[np.str_] | None
    ids_from: str


def read_descriptors(file: str | Path, ids: str | Path | None = None) -> DescriptorFile:
    """Read a descriptor file by the format that its name says.

    Args:
        file: `.npy` `[n, d]`; `.npz` with one such array and, optionally, ids; `.parquet` with a column of
            ids and either a column of lists or a number column per dimension; `.fvecs` or `.bvecs`; `.h5`
            with a group per image that holds `global_descriptor`, as hloc writes it.
        ids: a list of ids, row by row: `.txt` with one a line, or `.csv` with a column `image_id` (or one
            column only). None looks for one of the same name beside the file, unless the file holds ids.

    Returns:
        Rows and ids as stored; nothing is sorted or scaled.

    Raises:
        LandmarkRetrievalError: a file is missing, damaged, or of another form, or the ids are not as many as
            the rows.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise LandmarkRetrievalError(f"{path}: there is no such file of descriptors; check `descriptors`")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise LandmarkRetrievalError(
            f"{path}: descriptors are read from {', '.join(_READERS)}, not '{path.suffix or path.name}'; "
            "save them with numpy.save as one array [images, dimensions]"
        )
    with _damage_named(path):
        matrix, held = reader(path)
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiu" or 0 in matrix.shape:
        raise LandmarkRetrievalError(
            f"{path}: holds an array of shape {tuple(matrix.shape)} and type {matrix.dtype}; descriptors are "
            "numbers [images, dimensions], a row for each image"
        )
    listed = Path(ids).expanduser() if ids else None if held is not None else _list_beside(path)
    source = f"ids in {path.name}" if held is not None else "no ids"
    if listed is not None:
        held, source = read_id_list(listed), f"ids in {listed.name}"
    if held is not None and len(held) != len(matrix):
        raise LandmarkRetrievalError(
            f"{path}: {len(matrix)} rows but {len(held)} {source}; {_why_unequal(len(held) - len(matrix))}"
        )
    return DescriptorFile(path, matrix, held, source)


def read_id_list(file: Path) -> NDArray[np.str_]:
    """Return the ids that a `.txt` or `.csv` lists, str `[n]`, exactly as written.

    Raises:
        LandmarkRetrievalError: the file is missing, empty, no text, or has no column of ids.
    """
    if not file.is_file():
        raise LandmarkRetrievalError(f"{file}: there is no such list of ids; check `descriptors.ids`")
    with _damage_named(file):
        if file.suffix.lower() == ".csv":
            table = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig")
            column = _id_column(table)
            if column is None:
                raise LandmarkRetrievalError(
                    f"{file}: has columns {', '.join(map(str, table.columns))}, none of them image_id; name "
                    "the column of ids image_id"
                )
            return np.asarray(table[column], dtype=str)
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise LandmarkRetrievalError(f"{file}: is empty; write one id a line, in the order of the rows")
    return np.array([line.strip() for line in lines], dtype=str)


def _list_beside(path: Path) -> Path | None:
    places = (path.with_suffix(ending) for ending in (".txt", ".csv"))
    return next((place for place in places if place.is_file()), None)


def _id_column(table: pd.DataFrame) -> Any | None:
    named = next((name for name in ID_NAMES if name in table), None)
    return table.columns[0] if named is None and len(table.columns) == 1 else named


def _why_unequal(surplus: int) -> str:
    if surplus == 1:
        return "one id too many is often a header line: delete it"
    if surplus == -1:
        return "one id too few is often a first line that was read as a header, or a row of column names"
    return "give an id for every row, in the order of the rows"


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (LandmarkRetrievalError, PermissionError, MemoryError):
        raise
    except Exception as error:  # the libraries raise many types on damaged files
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise LandmarkRetrievalError(
            f"{path}: cannot be read ({reason}); the file is damaged or not what its name says"
        ) from None


Content = tuple[NDArray[Any], NDArray[np.str_] | None]


def _read_npy(path: Path) -> Content:
    return np.load(path, mmap_mode="r", allow_pickle=False), None


def _read_npz(path: Path) -> Content:
    if not zipfile.is_zipfile(path):
        raise ValueError("no zip archive")
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    matrices = [name for name, array in arrays.items() if array.ndim == 2 and array.dtype.kind in "fiu"]
    if len(matrices) != 1:
        raise LandmarkRetrievalError(
            f"{path}: holds {len(matrices)} arrays [images, dimensions] of numbers "
            f"({', '.join(matrices or arrays)}); keep one and, beside it, `ids`"
        )
    found = next((arrays[name] for name in ID_NAMES if name in arrays), None)
    return arrays[matrices[0]], None if found is None else found.astype(str)


def _read_parquet(path: Path) -> Content:
    table = pd.read_parquet(path)
    column = next((name for name in ID_NAMES if name in table), None)
    ids = None if column is None else table.pop(column).astype(str).to_numpy(dtype=str)
    numbers = [name for name in table if pd.api.types.is_numeric_dtype(table[name])]
    lists = [name for name in table if len(table) and isinstance(table[name].iloc[0], (np.ndarray, list))]
    if len(lists) == 1:
        widths = table[lists[0]].map(len)
        if (widths != widths.iloc[0]).any():
            row = int(np.flatnonzero(widths != widths.iloc[0])[0])
            raise LandmarkRetrievalError(
                f"{path}: row {row} has {widths.iloc[row]} numbers in '{lists[0]}', row 0 has "
                f"{widths.iloc[0]}; all descriptors have one length"
            )
        return np.stack(table[lists[0]].to_list()), ids
    return table[numbers].to_numpy(), ids


def _vecs_reader(dtype: type[Any]) -> Callable[[Path], Content]:
    def read(path: Path) -> Content:
        width = int(np.fromfile(path, dtype="<i4", count=1)[0])
        row = 4 + width * np.dtype(dtype).itemsize
        size = path.stat().st_size
        if width < 1 or size % row:
            raise ValueError(f"{size} bytes are not whole rows of {width} numbers")
        bytes_of_rows = np.memmap(path, dtype=np.uint8, mode="r").reshape(-1, row)
        widths = np.ascontiguousarray(bytes_of_rows[:, :4]).view("<i4").ravel()
        if (widths != width).any():
            number = int(np.flatnonzero(widths != width)[0])
            raise ValueError(f"row {number} says {widths[number]} numbers, row 0 says {width}")
        return np.ascontiguousarray(bytes_of_rows[:, 4:]).view(dtype), None

    return read


def _read_hloc(path: Path) -> Content:
    names: list[str] = []
    rows: list[NDArray[Any]] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and name.rsplit("/", 1)[-1] == HLOC_GLOBAL:
            names.append(name.rsplit("/", 1)[0])
            rows.append(np.asarray(item).ravel())

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    if not rows:
        raise LandmarkRetrievalError(
            f"{path}: no group holds '{HLOC_GLOBAL}'; this is not hloc's file of global features"
        )
    widths = {len(row) for row in rows}
    if len(widths) > 1:
        raise ValueError(f"descriptors of {' and '.join(map(str, sorted(widths)))} numbers in one file")
    return np.stack(rows), np.array(names, dtype=str)


_READERS: dict[str, Callable[[Path], Content]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".parquet": _read_parquet,
    ".fvecs": _vecs_reader(np.float32),
    ".bvecs": _vecs_reader(np.uint8),
    ".h5": _read_hloc,
    ".hdf5": _read_hloc,
}

"""Reader of photo folders: any folder, with a table or without, with sub-folders per landmark or without."""

from __future__ import annotations

import logging
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import pandas as pd

from landmark_retrieval.collection.image_table import COLUMNS, OPTIONAL_COLUMNS
from landmark_retrieval.collection.listed import ListedFile, match_listed_files
from landmark_retrieval.collection.table_file import EXPECTED, TABLES, find_table, read_table
from landmark_retrieval.collection.walk import (
    LINKED_TWICE,
    MISSING,
    NOT_LISTED,
    TABLE_FILE,
    USED,
    MetFile,
    Walk,
    walk,
)
from landmark_retrieval.errors import LandmarkRetrievalError, ProblemsError

logger = logging.getLogger(__name__)

DISTRACTORS = "distractors"
"""Sub-folder (in any case) whose images have no landmark, like every sub-folder that starts with `_`."""

Labels = Literal["auto", "none"]
"""Whether what a folder says of landmarks and splits is used: where there is something, or not at all."""

FILE_COLUMNS = ("path", "what", "other", "why", "image_id")
"""Columns of `RawCollection.files`: as of `MetFile`; `image_id` is "" for files that are not used."""


@dataclass(frozen=True)
class RawCollection:
    """What was found on disk.

    Attributes:
        table: a raw table for `prepare_image_table`.
        files: one row for every file that was met, `FILE_COLUMNS`; empty where only a table was read.
        problems: faults of the table, for the error that names all of them.
    """

    table: pd.DataFrame
    files: pd.DataFrame
    problems: tuple[str, ...] = ()


def read_image_folder(root: str | Path, allow_outside: bool = False, labels: Labels = "auto") -> pd.DataFrame:
    """Read what a data set is on disk into one raw table; as `read_collection`, without the other files.

    Raises:
        LandmarkRetrievalError: as of `read_collection`, or the table has faults.
    """
    raw = read_collection(root, allow_outside, labels)
    if raw.problems:
        raise ProblemsError(str(raw.table.attrs["table"]), raw.problems)
    return raw.table


def read_collection(
    root: str | Path, allow_outside: bool = False, labels: Labels = "auto", photos_needed: bool = True
) -> RawCollection:
    """Read what a data set is on disk, and account for every file.

    With a table `images.csv` (or `.tsv`, `.parquet`) in the folder, its rows are read; only its column `path`
    is needed. Without one, every picture below the folder is a row. Its first-level sub-folders are landmarks
    named after them where there are two or more, or one beside `distractors`; images in `distractors`, in
    sub-folders that start with `_`, and directly in the folder have no landmark. Ids that are not given are
    the relative paths without extension, made unique and free of white space.

    Args:
        root: the folder, or a table inside its folder.
        allow_outside: accept paths that leave the table's folder.
        labels: `none` reads neither landmarks nor splits: all photos are alike.
        photos_needed: whether photos must exist that a table lists; without them a column `image_id` is
            enough, and no file is looked at.

    Returns:
        The raw table has `image_id`, `path` (absolute), and what else there is of `split`, `landmark_id`,
        `landmark`, `usage` and `OPTIONAL_COLUMNS`. Its index is named `line` (line of the file) when it was
        read from a table; `attrs["table"]` names its source.

    Raises:
        LandmarkRetrievalError: the folder is missing or holds no photos, the table cannot be read, or none of
            its files exists. Single missing files are no error.
    """
    folder = Path(os.path.abspath(Path(root).expanduser()))  # noqa: PTH100 (links stay as they are)
    table: Path | None = None
    if folder.is_file() and folder.suffix.lower() in {Path(name).suffix for name in TABLES}:
        folder, table = folder.parent, folder
    if not folder.is_dir():
        raise LandmarkRetrievalError(f"{folder}: no such folder; {EXPECTED}")
    table = table or find_table(folder)
    if table and not photos_needed:
        raw = _read_rows(table, folder)
    else:
        raw = _read_table(table, folder, allow_outside) if table else _read_files(folder, labels)
    if labels == "none":
        kept = [name for name in ("image_id", "path", "crop") if name in raw.table]
        raw = RawCollection(raw.table[kept], raw.files, raw.problems)
    return raw


def _read_rows(file: Path, folder: Path) -> RawCollection:
    raw = read_table(file, (*COLUMNS, *OPTIONAL_COLUMNS))
    if "path" not in raw and "image_id" in raw:
        raw["path"] = raw["image_id"]
    if "path" in raw:
        paths = [None if pd.isna(path) else PurePosixPath(str(path)) for path in raw["path"]]
        raw["path"] = [np.nan if path is None else str(folder / path) for path in paths]
        if "image_id" not in raw:
            raw["image_id"] = _ids(paths)
    return RawCollection(raw, _files([]))


def _read_table(file: Path, folder: Path, allow_outside: bool) -> RawCollection:
    raw = read_table(file, (*COLUMNS, *OPTIONAL_COLUMNS))
    if "path" not in raw or not len(raw):
        return RawCollection(raw, _files([]))
    found = walk(folder)
    paths = {int(str(line)): str(path) for line, path in raw["path"].items() if not pd.isna(path)}
    listed = match_listed_files(paths, found, allow_outside)
    problems = [line for entry in listed.values() for line in entry.problem]
    if not problems and paths and not any(entry.exists for entry in listed.values()):
        first = next(iter(listed.values()))
        raise LandmarkRetrievalError(
            f"{file}: none of its {len(raw)} image files exists; paths are relative to {folder}, the first "
            f"one is {folder / first.path}"
        )
    _tell_rewritten(file, listed)
    # A file that is listed under several names is one file: the checks of the table then see it.
    names: dict[object, str] = {}
    for entry in listed.values():
        names.setdefault(entry.key or entry.path, entry.path)
    raw["path"] = [
        str(folder / names[listed[line].key or listed[line].path]) if line in listed else np.nan
        for line in raw.index
    ]
    if "image_id" not in raw:
        raw["image_id"] = _ids(
            PurePosixPath(listed[line].path) if line in listed else None for line in raw.index
        )
    repeated = [] if problems else _repeated(raw, listed)
    if repeated:
        logger.warning(
            "%s: %d rows list a file again and are left out, first line %d",
            file,
            len(repeated),
            repeated[0][0],
        )
    rows = _listed_rows(raw, listed, repeated) + _unlisted_rows(
        found, listed, file.relative_to(folder).as_posix()
    )
    return RawCollection(raw.drop(index=[line for line, _ in repeated]), _files(rows), tuple(problems))


def _tell_rewritten(file: Path, listed: dict[int, ListedFile]) -> None:
    rewritten = [entry for entry in listed.values() if entry.written is not None]
    if rewritten:
        first = rewritten[0]
        logger.warning(
            "%s: %d paths are written differently from the names on disk (Unicode form, case, spaces, "
            "backslashes) and were found all the same, first '%s' for %s",
            file,
            len(rewritten),
            first.written,
            first.path,
        )


def _repeated(raw: pd.DataFrame, listed: dict[int, ListedFile]) -> list[tuple[int, int]]:
    """Return rows that list a file (and part of it) again, each with the row that did so first.

    A file that is listed in two splits or with two landmarks is left to `prepare_image_table`, which refuses
    it.
    """
    told = [name for name in ("split", "landmark_id", "landmark") if name in raw]
    crops = raw["crop"] if "crop" in raw else pd.Series("", index=raw.index)
    first: dict[object, int] = {}
    repeated = []
    for line, entry in listed.items():
        known = first.setdefault((entry.key or entry.path, crops[line]), line)
        same = all(pd.isna(raw[name][line]) or raw[name][line] == raw[name][known] for name in told)
        if known != line and same:
            repeated.append((line, known))
    return repeated


def _listed_rows(
    raw: pd.DataFrame, listed: dict[int, ListedFile], repeated: Sequence[tuple[int, int]]
) -> list[tuple[str, ...]]:
    again = dict(repeated)
    ids = raw["image_id"].fillna("").astype(str).to_dict()
    rows: list[tuple[str, ...]] = []
    for line, entry in listed.items():
        if line in again:
            other = listed[again[line]].path
            rows.append((entry.path, LINKED_TWICE, other, f"line {line} lists it again", ""))
        else:
            why = "" if entry.written is None else f"written '{entry.written}' in the table"
            rows.append((entry.path, USED if entry.exists else MISSING, "", why, ids[line]))
    return rows


def _unlisted_rows(found: Walk, listed: dict[int, ListedFile], table: str) -> list[tuple[str, ...]]:
    used = {entry.path for entry in listed.values()}
    rows: list[tuple[str, ...]] = []
    for photo in found.photos:
        if photo not in used:
            rows.append((photo, NOT_LISTED, "", "", ""))
    for other in found.others:
        if other.path == table:
            rows.append((table, TABLE_FILE, "", "", ""))
        elif other.path not in used:
            rows.append((*other, ""))
    return rows


def _read_files(folder: Path, labels: Labels) -> RawCollection:
    found = walk(folder)
    if not found.photos:
        met = Counter(other.what for other in found.others)
        words = ", ".join(f"{count} {what}" for what, count in met.items())
        raise LandmarkRetrievalError(f"{folder}: no photos here ({words or 'it is empty'}); {EXPECTED}")
    files = [PurePosixPath(path) for path in found.photos]
    raw = pd.DataFrame({"image_id": _ids(files), "path": [str(folder / path) for path in found.photos]})
    if labels != "none":
        names = _landmarks(files, folder)
        if names is not None:
            raw["landmark"] = pd.Series(names, dtype="str")
    raw.attrs["table"] = str(folder)
    rows = [(path, USED, "", "", name) for path, name in zip(found.photos, raw["image_id"], strict=True)]
    return RawCollection(raw, _files([*rows, *((*other, "") for other in found.others)]))


def _landmarks(files: Sequence[PurePosixPath], folder: Path) -> list[str | None] | None:
    """Return the landmark of every file where the sub-folders name some, else None."""
    names = [_landmark_of(file) for file in files]
    landmarks = sorted({name for name in names if name is not None})
    explicit = any(len(file.parts) > 1 and _landmark_of(file) is None for file in files)
    if len(landmarks) >= 2 or (landmarks and explicit):
        logger.info(
            "%s: its %d sub-folders are taken for landmarks (%s%s); --params labels=none if they are not",
            folder,
            len(landmarks),
            ", ".join(landmarks[:3]),
            ", …" if len(landmarks) > 3 else "",
        )
        return names
    if landmarks:
        logger.info(
            "%s: the one sub-folder %s is not taken for a landmark; give it as image_root if its own "
            "sub-folders are landmarks",
            folder,
            landmarks[0],
        )
    return None


def _landmark_of(file: PurePosixPath) -> str | None:
    first = file.parts[0]
    if len(file.parts) == 1 or first.startswith("_") or first.lower() == DISTRACTORS:
        return None
    return unicodedata.normalize("NFC", first).strip()


def _ids(files: Iterable[PurePosixPath | None]) -> list[str]:
    """Return an id for every file: its path without extension, numbered where two would be equal."""
    ids: dict[str, None] = {}
    for number, file in enumerate(files):
        written = (
            f"row-{number}" if file is None else unicodedata.normalize("NFC", file.with_suffix("").as_posix())
        )
        visible = "".join(letter for letter in written if unicodedata.category(letter) != "Cf")
        plain = re.sub(r'[\s,"]+', "_", visible)
        image_id, count = plain, 2
        while image_id in ids:
            image_id, count = f"{plain}-{count}", count + 1
        ids[image_id] = None
    return list(ids)


def only_table(table: pd.DataFrame) -> RawCollection:
    """Return a raw table of which nothing but its rows is known."""
    return RawCollection(table, _files([]))


def _files(rows: Sequence[Sequence[str] | MetFile]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=list(FILE_COLUMNS), dtype="str")

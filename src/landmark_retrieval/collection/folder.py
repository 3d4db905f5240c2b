"""Reader of photo folders: a table `images.csv`, or one sub-folder per landmark."""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from landmark_retrieval.collection.image_table import COLUMNS
from landmark_retrieval.errors import LandmarkRetrievalError

logger = logging.getLogger(__name__)

TABLE = "images.csv"
"""Name of a folder's image table."""

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
"""Files that count as images when a folder has no table, compared in lower case."""

DISTRACTORS = "distractors"
"""Sub-folder (in any case) whose images have no landmark, like every sub-folder that starts with `_`."""

_EXPECTED = (
    f"expected a table {TABLE} (columns image_id,path,split,landmark_id[,landmark][,usage]) or one "
    "sub-folder of photos per landmark"
)


def read_image_folder(root: str | Path, allow_outside: bool = False) -> pd.DataFrame:
    """Read what a data set is on disk into one raw table.

    With a table `images.csv` in the folder, its rows are read. Without one, every first-level sub-folder is
    a landmark named after it, with all images below it; sub-folders named `distractors` or starting with
    `_`, and images directly in the folder, hold images without a landmark; hidden files are skipped. Ids are
    then the relative paths without extension, made unique and free of white space.

    Args:
        root: the folder, or a table (`.csv`) inside its folder.
        allow_outside: accept paths that leave the table's folder.

    Returns:
        A raw table for `prepare_image_table`: `image_id`, `path` (absolute), and what else there is of
        `split`, `landmark_id`, `landmark`, `usage`. Its index is named `line` (line of the file) when it was
        read from a table; `attrs["table"]` names its source.

    Raises:
        LandmarkRetrievalError: the folder is missing or holds no images, the table cannot be read, a path
            leaves the folder, or none of the table's files exists. Single missing files are no error.
    """
    folder = Path(os.path.abspath(Path(root).expanduser()))  # noqa: PTH100 (links stay as they are)
    table = folder / TABLE
    if folder.is_file() and folder.suffix.lower() == ".csv":
        folder, table = folder.parent, folder
    if not folder.is_dir():
        raise LandmarkRetrievalError(f"{folder}: no such folder; {_EXPECTED}")
    return _read_table(table, folder, allow_outside) if table.is_file() else _read_sub_folders(folder)


def _read_table(file: Path, folder: Path, allow_outside: bool) -> pd.DataFrame:
    raw = _parse(file)
    raw.columns = raw.columns.str.strip()
    raw.index = pd.RangeIndex(2, len(raw) + 2, name="line")
    raw = raw.dropna(how="all")
    raw.attrs["table"] = str(file)
    names = raw.columns.str.replace(r"\.\d+$", "", regex=True)  # the parser numbers repeated columns
    repeated = names[names.duplicated() & names.isin(COLUMNS)]
    if len(repeated):
        raise LandmarkRetrievalError(f"{file}: column {repeated[0]} is there twice")
    if "path" not in raw or not len(raw):
        return raw
    if not allow_outside:
        _refuse_outside(raw, file, folder)
    raw["path"] = [np.nan if pd.isna(path) else os.path.join(folder, path) for path in raw["path"]]  # noqa: PTH118
    paths = raw["path"].dropna()
    if len(paths) and not any(Path(path).is_file() for path in paths):
        raise LandmarkRetrievalError(
            f"{file}: none of its {len(raw)} image files exists; paths are relative to {folder}, the first "
            f"one is {paths.iloc[0]}"
        )
    return raw


def _parse(file: Path) -> pd.DataFrame:
    """Read a table as text; damaged tables are refused with the parser's own words (they name the line)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(
                file,
                dtype="str",
                keep_default_na=False,
                na_values=[""],
                skip_blank_lines=False,
                index_col=False,
                encoding="utf-8-sig",
            )
    except pd.errors.EmptyDataError:
        raise LandmarkRetrievalError(f"{file}: the table is empty; {_EXPECTED}") from None
    except pd.errors.ParserWarning:
        raise LandmarkRetrievalError(f"{file}: rows have more fields than the header has columns") from None
    except UnicodeDecodeError as error:
        raise LandmarkRetrievalError(f"{file}: not UTF-8 text ({error}); save the table as UTF-8") from None
    except (pd.errors.ParserError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise LandmarkRetrievalError(f"{file}: cannot be read as a table ({reason})") from None


def _refuse_outside(raw: pd.DataFrame, file: Path, folder: Path) -> None:
    suspects = raw["path"][raw["path"].str.contains(r"\.\.|^[/\\~]|^[A-Za-z]:", na=False, regex=True)]
    roots = {str(folder), os.path.realpath(folder)}
    for line, path in suspects.items():
        target = os.path.normpath(folder / path)
        if not any(target.startswith(root.rstrip(os.sep) + os.sep) for root in roots):
            raise LandmarkRetrievalError(
                f"{file}, line {line}: path '{path}' leaves the folder of the table; move the image "
                "into it, or allow such paths with `allow_outside: true` at the photos' catalog entry"
            )


def _read_sub_folders(folder: Path) -> pd.DataFrame:
    files = sorted(_image_files(folder), key=lambda file: file.as_posix())
    landmarks = [_landmark_of(file) for file in files]
    if all(landmark is None for landmark in landmarks):
        raise LandmarkRetrievalError(f"{folder}: no table and no sub-folders with images here; {_EXPECTED}")
    raw = pd.DataFrame(
        {
            "image_id": _ids(files),
            "path": [str(folder / file) for file in files],
            "landmark": pd.Series(landmarks, dtype="str"),
        }
    )
    raw.attrs["table"] = str(folder)
    return raw


def _image_files(folder: Path) -> Iterator[Path]:
    """Yield the images below a folder, relative to it, in no particular order."""
    for parent, folders, names in os.walk(folder, followlinks=False):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            file = Path(parent, name).relative_to(folder)
            if name.startswith(".") or file.suffix.lower() not in EXTENSIONS:
                continue
            if not str(file).isprintable():
                logger.warning("%s: skipped, its name cannot be written down; rename it", ascii(str(file)))
                continue
            yield file


def _landmark_of(file: Path) -> str | None:
    first = file.parts[0]
    if len(file.parts) == 1 or first.startswith("_") or first.lower() == DISTRACTORS:
        return None
    return first


def _ids(files: Iterable[Path]) -> list[str]:
    """Return an id for every file: its path without extension, numbered where two would be equal."""
    ids: dict[str, None] = {}
    for file in files:
        plain = re.sub(r'[\s,"]+', "_", file.with_suffix("").as_posix())
        image_id, number = plain, 2
        while image_id in ids:
            image_id, number = f"{plain}-{number}", number + 1
        ids[image_id] = None
    return list(ids)

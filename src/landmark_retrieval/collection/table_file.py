"""Reading of image tables as they come: separators, encodings, parquet, headers in any spelling."""

from __future__ import annotations

import logging
import re
import unicodedata
import warnings
from pathlib import Path

import pandas as pd

from landmark_retrieval.errors import LandmarkRetrievalError

logger = logging.getLogger(__name__)

TABLES = ("images.csv", "images.tsv", "images.parquet")
"""Names of a folder's image table, in any case; the first one counts where there are several."""

EXPECTED = (
    "expected photos, one sub-folder of photos per landmark, or a table images.csv (column path, and where "
    "there are any image_id, split, landmark_id, landmark, usage)"
)


def find_table(folder: Path) -> Path | None:
    """Return the image table of a folder, or None."""
    named = {entry.name.lower(): entry for entry in sorted(folder.iterdir(), reverse=True) if entry.is_file()}
    found = [named[name] for name in TABLES if name in named]
    if len(found) > 1:
        logger.warning("%s: %s is read, not %s", folder, found[0].name, ", ".join(f.name for f in found[1:]))
    return found[0] if found else None


def read_table(file: Path, known: tuple[str, ...]) -> pd.DataFrame:
    """Read a table as text, exactly as it is written: ids such as `00012`, `1e5`, `NA` stay what they are.

    Args:
        file: CSV with commas, semicolons or tabs, in UTF-8 or UTF-16, with or without a byte order mark; or
            parquet.
        known: names of columns; a header that differs from one only in case, spaces or hyphens is read as it.

    Returns:
        Columns of str, missing where a cell is empty; the index `line` counts lines of the file (rows of a
        parquet file from 1). Empty lines are left out.

    Raises:
        LandmarkRetrievalError: the file is empty, damaged, not text, or has a column twice.
    """
    try:
        raw = _read_parquet(file) if file.suffix.lower() == ".parquet" else _read_text(file)
    except pd.errors.EmptyDataError:
        raise LandmarkRetrievalError(f"{file}: the table is empty; {EXPECTED}") from None
    except pd.errors.ParserWarning:
        raise LandmarkRetrievalError(f"{file}: rows have more fields than the header has columns") from None
    except UnicodeError as error:
        raise LandmarkRetrievalError(f"{file}: not UTF-8 text ({error}); save the table as UTF-8") from None
    except (pd.errors.ParserError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise LandmarkRetrievalError(f"{file}: cannot be read as a table ({reason})") from None
    raw = _name_columns(raw, file, known).dropna(how="all")
    raw.attrs["table"] = str(file)
    return raw


def _read_text(file: Path) -> pd.DataFrame:
    with file.open("rb") as stream:
        start = stream.read(2)
    encoding = "utf-16" if start in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    with file.open(encoding=encoding) as text:
        header = re.sub(r'"[^"]*"', "", text.readline())
    separator = max(",;\t", key=header.count)
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        raw = pd.read_csv(
            file,
            sep=separator,
            dtype="str",
            keep_default_na=False,
            na_values=[""],
            skip_blank_lines=False,
            index_col=False,
            encoding=encoding,
        )
    # The parser numbers repeated columns.
    raw.columns = pd.Index([re.sub(r"\.\d+$", "", str(name)) for name in raw.columns])
    raw.index = pd.RangeIndex(2, len(raw) + 2, name="line")
    return raw


def _read_parquet(file: Path) -> pd.DataFrame:
    raw = pd.read_parquet(file).reset_index(drop=True)
    raw.columns = raw.columns.map(str)
    raw.index = pd.RangeIndex(1, len(raw) + 1, name="line")
    text = raw.astype("object").where(raw.notna(), None).map(lambda cell: None if cell is None else str(cell))
    return text.replace("", None).astype("str")


def _name_columns(raw: pd.DataFrame, file: Path, known: tuple[str, ...]) -> pd.DataFrame:
    plain = {re.sub(r"[\s_-]", "", name): name for name in known}
    columns = []
    for given in raw.columns:
        written = unicodedata.normalize("NFC", str(given)).strip()
        name = plain.get(re.sub(r"[\s_-]", "", written.lower()), written)
        if name not in (written, given):
            logger.warning("%s: column '%s' is read as %s", file, written, name)
        columns.append(name)
    raw.columns = pd.Index(columns)
    repeated = raw.columns[raw.columns.duplicated() & raw.columns.isin(known)]
    if len(repeated):
        raise LandmarkRetrievalError(f"{file}: column {repeated[0]} is there twice")
    return raw.loc[:, ~raw.columns.duplicated()]

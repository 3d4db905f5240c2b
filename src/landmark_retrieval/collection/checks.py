"""Faults of an image table: all of them are found before anything is said."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from landmark_retrieval.collection.rows import SPLITS

logger = logging.getLogger(__name__)

USAGES = ("Public", "Private", "Ignored")
"""The values of column `usage`: the part of the metric a query counts in; `Ignored` counts in none."""

SHOWN = 5
"""Lines that are named of a fault that many rows have."""

_FORBIDDEN_IN_IDS = r'[\s,"]'
_NUMBER = r"-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?"
_CROP = rf"{_NUMBER}(?: +{_NUMBER}){{3}}"


def problems(table: pd.DataFrame) -> list[str]:
    """Return what is wrong with a table of text, one sentence for each kind of fault, with its lines.

    What is odd but has one meaning is only said in the log: a landmark with two names, a name with two
    landmarks, names that differ in case.

    Args:
        table: all columns of `image_table.COLUMNS`, stripped, missing where empty. When its index is named
            `line`, lines are named, else rows from 0.
    """
    found = _id_problems(table) + _missing(table, "path")
    if table["split"].notna().any():
        found += _missing(table, "split")
    found += _unknown(table, "split", SPLITS) + _unknown(table, "usage", USAGES)
    numbers = table["landmark_id"]
    found += _fault(
        table,
        numbers.notna() & ~numbers.str.fullmatch(r"\d{1,18}(\.0+)?", na=False),
        lambda row: (
            f"landmark_id '{row['landmark_id']}' is not a whole number from 0; put names in a column "
            "`landmark` and leave landmark_id empty for images without a landmark"
        ),
    )
    if "crop" in table:
        crops = table["crop"]
        found += _fault(
            table,
            crops.notna() & ~crops.str.fullmatch(_CROP, na=False),
            lambda row: f"crop '{row['crop']}' is not four numbers: left top right bottom in pixels",
        )
    found += _files_of_two_kinds(table)
    if not found:
        _tell_odd_landmarks(table)
    return found


def lines(table: pd.DataFrame, rows: NDArray[np.bool_] | pd.Series) -> str:
    """Return where rows are, in words: `line 3`, `lines 3, 5 and 12`, `lines 3, 5, 7, 8, 9 and 40 more`."""
    word = "line" if table.index.name == "line" else "row"
    places = [str(place) for place in table.index[np.asarray(rows, dtype=bool)]]
    if len(places) == 1:
        return f"{word} {places[0]}"
    if len(places) <= SHOWN:
        return f"{word}s {', '.join(places[:-1])} and {places[-1]}"
    return f"{word}s {', '.join(places[:SHOWN])} and {len(places) - SHOWN} more"


def _fault(table: pd.DataFrame, bad: pd.Series, words: Callable[[pd.Series], str]) -> list[str]:
    if not bad.any():
        return []
    return [f"{lines(table, bad)}: {words(table[bad].iloc[0])}"]


def _missing(table: pd.DataFrame, column: str) -> list[str]:
    return _fault(table, table[column].isna(), lambda row: f"'{row['image_id']}' has no {column}")


def _unknown(table: pd.DataFrame, column: str, allowed: tuple[str, ...]) -> list[str]:
    bad = table[column].notna() & ~table[column].isin(allowed)
    words = f"is unknown; allowed are {', '.join(allowed)}"
    return _fault(table, bad, lambda row: f"{column} '{row[column]}' of image '{row['image_id']}' {words}")


def _id_problems(table: pd.DataFrame) -> list[str]:
    ids = table["image_id"]
    found = _fault(table, ids.isna(), lambda row: "image_id is empty")
    found += _fault(
        table,
        ids.str.contains(_FORBIDDEN_IN_IDS, regex=True, na=False),
        lambda row: (
            f"image_id '{row['image_id']}' holds white space, a comma or a quote, which submission files "
            "cannot; rename it, or leave the column image_id out"
        ),
    )
    repeated = ids[ids.notna() & ids.duplicated()].unique()
    for name in repeated[:SHOWN]:
        found.append(f"{lines(table, ids == name)}: duplicate image_id '{name}'; every image needs its own")
    if len(repeated) > SHOWN:
        found.append(f"{len(repeated) - SHOWN} more ids are there twice")
    return found


def _files_of_two_kinds(table: pd.DataFrame) -> list[str]:
    """Return the files that are listed twice as different things: figures would be too good, or senseless."""
    files = table["path"]
    if "crop" in table:
        files = files + "\n" + table["crop"].fillna("")
    again = files[files.notna() & files.duplicated(keep=False)]
    found = []
    for name in again.unique():
        same = files == name
        for column in ("split", "landmark_id", "landmark"):
            kinds = table.loc[same, column].dropna().unique()
            if len(kinds) > 1:
                found.append(
                    f"{lines(table, same)}: one file has {column} '{kinds[0]}' and '{kinds[1]}' "
                    f"({name.split(chr(10))[0]}); list it once"
                )
                break
    return found[:SHOWN] + ([f"{len(found) - SHOWN} more files are like that"] if len(found) > SHOWN else [])


def _tell_odd_landmarks(table: pd.DataFrame) -> None:
    both = table[table["landmark_id"].notna() & table["landmark"].notna()]
    source = table.attrs.get("table", "image table")
    for one, two in (("landmark_id", "landmark"), ("landmark", "landmark_id")):
        kinds = both.groupby(one)[two].nunique()
        for value in kinds.index[kinds > 1][:SHOWN]:
            rows = (table[one] == value) & table[two].notna()
            names = ", ".join(map(str, table.loc[rows, two].unique()[:SHOWN]))
            logger.warning(
                "%s, %s: %s %s has several %ss (%s); landmark_id decides which images belong together",
                source,
                lines(table, rows),
                one,
                value,
                two,
                names,
            )
    spellings = table["landmark"].dropna().drop_duplicates()
    for _, same in spellings.groupby(spellings.str.casefold()):
        if len(same) > 1:
            logger.warning(
                "%s, %s: landmarks %s differ in upper and lower case only and are taken for different ones",
                source,
                lines(table, table["landmark"].isin(same)),
                " and ".join(f"'{name}'" for name in same),
            )

"""The image table: how any data set enters the project, and the row order of every array.

Columns: `image_id` str, `path` str (where the image file is), `split` in {query, index, train}, `landmark_id`
nullable Int64, `landmark` nullable str, `usage` nullable str in {Public, Private, Ignored}. Data sets that
list what each query should find, instead of naming landmarks, add `relevant`, and the others of
`OPTIONAL_COLUMNS` where they need them. After
`prepare_image_table` the rows are ordered query, index, train (the given order is kept inside a split), so a
split is one contiguous slice of rows.
"""

from __future__ import annotations

import logging
from typing import NoReturn

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, model_validator

from landmark_retrieval.collection.rows import (
    LISTS,
    NO_LANDMARK,
    SPLITS,
    SplitRows,
    landmark_of,
    listed_index_rows,
    relevant_index_rows,
    split_counts,
)
from landmark_retrieval.collection.splits import draw_splits
from landmark_retrieval.configuration import Configuration
from landmark_retrieval.errors import LandmarkRetrievalError

__all__ = [
    "COLUMNS",
    "LISTS",
    "NO_LANDMARK",
    "OPTIONAL_COLUMNS",
    "SPLITS",
    "USAGES",
    "DataSetConfig",
    "SplitRows",
    "landmark_of",
    "prepare_image_table",
    "relevant_index_rows",
    "split_counts",
]

logger = logging.getLogger(__name__)

USAGES = ("Public", "Private", "Ignored")
"""The values of column `usage`: the part of the metric a query counts in; `Ignored` counts in none."""

COLUMNS = ("image_id", "path", "split", "landmark_id", "landmark", "usage")
"""The columns of every prepared table."""

OPTIONAL_COLUMNS = ("crop", *LISTS)
"""Columns that only some data sets have.

`crop`: the part of the file that is the image, "left top right bottom" in pixels. `relevant`: what a query
should find; where the column is there, it alone decides, and queries without an entry have nothing to find.
`hard`: those of `relevant` that show the landmark poorly; `junk`: what is neither right nor wrong (both of
Revisited Oxford and Paris).
"""

_FORBIDDEN_IN_IDS = r'[\s,"]'
_NUMBER = r"-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?"
_CROP = rf"{_NUMBER}(?: +{_NUMBER}){{3}}"


class DataSetConfig(Configuration):
    """What the data set is called, and how splits are drawn for photos that come without a column `split`.

    Attributes:
        name: of the data set in reports.
        seed: the draw; the same images and seed always give the same splits, whatever the order of files.
        query_fraction: share of every landmark's images that become queries, at least one image.
        train_fraction: share of every landmark's images that become labelled train images; they come at
            least in pairs (two votes of one label are needed to link an image) and never outnumber the
            landmark's index images. 0 leaves the train split empty.
        min_images: landmarks with fewer images than this go to the index as a whole; at least 2, because a
            query needs an index image to find.
    """

    name: str = ""
    seed: int = 0
    query_fraction: float = Field(default=0.2, gt=0, lt=1)
    train_fraction: float = Field(default=0.2, ge=0, lt=1)
    min_images: int = Field(default=2, ge=2)

    @model_validator(mode="after")
    def _leave_an_index(self) -> DataSetConfig:
        if self.query_fraction + self.train_fraction >= 1:
            raise LandmarkRetrievalError(
                f"query_fraction {self.query_fraction} + train_fraction {self.train_fraction} leave nothing "
                "for the index; their sum must be below 1"
            )
        return self


def prepare_image_table(raw: pd.DataFrame, config: DataSetConfig | None = None) -> pd.DataFrame:
    """Check a raw table, draw its splits where they are missing, and put it in the order of rows.

    Args:
        raw: columns `image_id` and `path`; `landmark_id` (whole numbers or empty) or, instead, `landmark`
            (names; ids are then numbered along the sorted names); optionally `split`, `usage` and
            `OPTIONAL_COLUMNS`. Other columns are dropped. When its index is named `line`, errors name that
            line of `raw.attrs["table"]`.
        config: how splits are drawn when the table has no column `split`; the defaults when None.

    Returns:
        The prepared table: columns `COLUMNS` and those of `OPTIONAL_COLUMNS` that `raw` has, RangeIndex, rows
        ordered query, index, train.

    Raises:
        LandmarkRetrievalError: a column is missing; an id is missing, used twice or holds white space, a
            comma or a quote; a split, usage or landmark id is not an allowed value; there are no queries or
            no index images; a list names an image that is not in the index; a crop is not four numbers; or
            no query that counts has anything to find in the index.
    """
    config = config or DataSetConfig()
    table = _with_columns(raw)
    _check_ids(table)
    _check_present(table, "path")
    table["landmark_id"] = _landmark_ids(table)
    _check_values(table, "usage", USAGES)
    if table["split"].isna().all():
        table["split"] = draw_splits(
            table["image_id"].tolist(),
            landmark_of(table),
            seed=config.seed,
            query_fraction=config.query_fraction,
            train_fraction=config.train_fraction,
            min_images=config.min_images,
        )
        logger.info("%s: splits drawn with seed %d", _name(table), config.seed)
    else:
        _check_present(table, "split")
        _check_values(table, "split", SPLITS)
    _check_crops(table)
    order = table["split"].map({split: rank for rank, split in enumerate(SPLITS)}).to_numpy()
    prepared = table.iloc[np.argsort(order, kind="stable")].reset_index(drop=True)
    _check_task(prepared)
    _log_summary(prepared)
    prepared.attrs.clear()
    return prepared


def _name(table: pd.DataFrame) -> str:
    return str(table.attrs.get("table", "image table"))


def _row(table: pd.DataFrame, position: int) -> str:
    if table.index.name == "line":
        return f"line {table.index[position]}"
    return f"row {position}"


def _refuse(table: pd.DataFrame, position: int, message: str) -> NoReturn:
    raise LandmarkRetrievalError(f"{_name(table)}, {_row(table, position)}: {message}")


def _first(mask: pd.Series) -> int | None:
    positions = np.flatnonzero(mask.to_numpy(dtype=bool))
    return int(positions[0]) if len(positions) else None


def _with_columns(raw: pd.DataFrame) -> pd.DataFrame:
    missing = [column for column in ("image_id", "path") if column not in raw]
    if "landmark_id" not in raw and "landmark" not in raw:
        missing.append("landmark_id")
    if missing:
        raise LandmarkRetrievalError(
            f"{_name(raw)}: column {', '.join(missing)} is missing; expected columns are image_id, path, "
            f"split, landmark_id[, landmark][, usage], found {', '.join(map(str, raw.columns)) or 'none'}"
        )
    if not len(raw):
        raise LandmarkRetrievalError(f"{_name(raw)}: the table has no rows")
    optional = [column for column in OPTIONAL_COLUMNS if column in raw]
    ignored = [str(column) for column in raw.columns if column not in (*COLUMNS, *optional)]
    if ignored:
        logger.info("%s: columns without a meaning here are ignored: %s", _name(raw), ", ".join(ignored))
    columns = {column: _text(raw, column) for column in (*COLUMNS, *optional)}
    table = pd.DataFrame(columns, index=raw.index)
    table.attrs["table"] = _name(raw)
    table.attrs["has_landmark_ids"] = "landmark_id" in raw
    return table


def _text(raw: pd.DataFrame, column: str) -> pd.Series:
    """Return a column as text with empty cells missing, without blanks around it (but for ids and paths)."""
    if column not in raw:
        return pd.Series(None, index=raw.index, dtype="str")
    text = raw[column].astype("string")
    if column not in ("image_id", "path"):
        text = text.str.strip()
    return text.mask(text == "").astype("str")


def _check_present(table: pd.DataFrame, column: str) -> None:
    position = _first(table[column].isna())
    if position is not None:
        _refuse(table, position, f"'{table['image_id'].iloc[position]}' has no {column}")


def _check_ids(table: pd.DataFrame) -> None:
    ids = table["image_id"]
    position = _first(ids.isna())
    if position is not None:
        _refuse(table, position, "image_id is empty")
    position = _first(ids.str.contains(_FORBIDDEN_IN_IDS, regex=True))
    if position is not None:
        _refuse(
            table,
            position,
            f"image_id '{ids.iloc[position]}' holds white space, a comma or a quote, which submission "
            "files cannot; rename it",
        )
    position = _first(ids.duplicated())
    if position is not None:
        earlier = _first(ids == ids.iloc[position])
        assert earlier is not None
        raise LandmarkRetrievalError(
            f"{_name(table)}: duplicate image_id '{ids.iloc[position]}' in {_row(table, earlier)} and "
            f"{_row(table, position)}; every image needs its own"
        )


def _check_values(table: pd.DataFrame, column: str, allowed: tuple[str, ...]) -> None:
    values = table[column]
    position = _first(values.notna() & ~values.isin(allowed))
    if position is not None:
        _refuse(
            table,
            position,
            f"{column} '{values.iloc[position]}' of image '{table['image_id'].iloc[position]}' is unknown; "
            f"allowed are {', '.join(allowed)}",
        )


def _landmark_ids(table: pd.DataFrame) -> pd.Series:
    if not table.attrs["has_landmark_ids"]:
        names = table["landmark"]
        numbered = {name: number for number, name in enumerate(sorted(names.dropna().unique()))}
        return names.map(numbered).astype("Int64")
    text = table["landmark_id"]
    position = _first(text.notna() & ~text.str.fullmatch(r"\d{1,18}(\.0+)?", na=False))
    if position is not None:
        _refuse(
            table,
            position,
            f"landmark_id '{text.iloc[position]}' is not a whole number from 0; put names in a column "
            "`landmark` and leave landmark_id empty for images without a landmark",
        )
    numbers = text.str.replace(r"\.0+$", "", regex=True)
    return pd.Series(
        pd.array([None if pd.isna(number) else int(number) for number in numbers], dtype="Int64"),
        index=table.index,
    )


def _check_crops(table: pd.DataFrame) -> None:
    if "crop" not in table:
        return
    position = _first(table["crop"].notna() & ~table["crop"].str.fullmatch(_CROP, na=False))
    if position is not None:
        _refuse(
            table,
            position,
            f"crop '{table['crop'].iloc[position]}' is not four numbers: left top right bottom in pixels",
        )


def _check_task(prepared: pd.DataFrame) -> None:
    name = _name(prepared)
    rows = SplitRows.from_table(prepared)
    for split, part in (("query", rows.query), ("index", rows.index)):
        if part.start == part.stop:
            raise LandmarkRetrievalError(
                f"{name}: no image has split '{split}'; give some images that split, or leave the column "
                "`split` out to have splits drawn (a landmark needs 2 images for a query)"
            )
    counts = (prepared["usage"].iloc[rows.query] != "Ignored").to_numpy(dtype=bool)
    for column in LISTS:
        if column in prepared:
            listed_index_rows(prepared, column)
    if not (_has_relevant(prepared) & counts).any():
        raise LandmarkRetrievalError(
            f"{name}: no query has an image of its landmark in the index, so nothing can be measured; check "
            f"the columns {'relevant' if 'relevant' in prepared else 'landmark_id'}, split and usage"
        )


def _has_relevant(prepared: pd.DataFrame) -> NDArray[np.bool_]:
    """Tell of every query whether there is anything for it to find."""
    return np.array([len(rows) > 0 for rows in relevant_index_rows(prepared)], dtype=bool)


def _log_summary(prepared: pd.DataFrame) -> None:
    rows = SplitRows.from_table(prepared)
    landmarks = landmark_of(prepared)
    queries, index = landmarks[rows.query], landmarks[rows.index]
    lonely = int((~_has_relevant(prepared)).sum())
    logger.info(
        "%s: %d queries, %d index images (%d without a landmark), %d train images, %d landmarks",
        _name(prepared),
        len(queries),
        len(index),
        int((index == NO_LANDMARK).sum()),
        rows.train.stop - rows.train.start,
        len(np.unique(landmarks[landmarks != NO_LANDMARK])),
    )
    if lonely:
        logger.info(
            "%s: %d queries have no image of their landmark in the index and are not scored",
            _name(prepared),
            lonely,
        )
    if rows.train.start == rows.train.stop:
        logger.info(
            "%s: no train images, so semi-supervised EGT has no labels to use and equals plain EGT",
            _name(prepared),
        )

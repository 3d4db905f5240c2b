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
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from landmark_retrieval.collection.checks import USAGES, problems
from landmark_retrieval.collection.rows import (
    LISTS,
    NO_LANDMARK,
    SPLITS,
    SplitRows,
    has_truth,
    landmark_of,
    listed_index_rows,
    relevant_index_rows,
    split_counts,
)
from landmark_retrieval.collection.splits import draw_splits
from landmark_retrieval.configuration import Configuration, Seed
from landmark_retrieval.errors import LandmarkRetrievalError, ProblemsError

if TYPE_CHECKING:
    from landmark_retrieval.collection.folder import RawCollection

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
    "prepare_collection",
    "prepare_image_table",
    "relevant_index_rows",
    "split_counts",
]

logger = logging.getLogger(__name__)

COLUMNS = ("image_id", "path", "split", "landmark_id", "landmark", "usage")
"""The columns of every prepared table."""

LEAVE_ONE_OUT = "leave_one_out"

OPTIONAL_COLUMNS = ("crop", *LISTS)
"""Columns that only some data sets have.

`crop`: the part of the file that is the image, "left top right bottom" in pixels. `relevant`: what a query
should find; where the column is there, it alone decides, and queries without an entry have nothing to find.
`hard`: those of `relevant` that show the landmark poorly; `junk`: what is neither right nor wrong (both of
Revisited Oxford and Paris).
"""


class DataSetConfig(Configuration):
    """What the data set is called, how it is measured, and how splits are drawn for photos without any.

    Photos without landmarks and splits are all in the index.

    Attributes:
        name: name of the data set in reports.
        protocol: `splits` asks the queries; `leave_one_out` puts queries and index together and asks every
            photo against the others, as Holidays and UKBench do.
        seed: the draw; the same images and seed always give the same splits, whatever the order of files.
        query_fraction: share of every landmark's images that become queries, at least one image.
        train_fraction: share of every landmark's images that become labelled train images; they come at
            least in pairs (two votes of one label are needed to link an image) and never outnumber the
            landmark's index images. 0 leaves the train split empty.
        min_images: landmarks with fewer images than this go to the index as a whole; at least 2, because a
            query needs an index image to find.
    """

    name: str = ""
    protocol: Literal["splits", "leave_one_out"] = "splits"
    seed: Seed = 0
    query_fraction: float = Field(default=0.2, gt=0, lt=1)
    train_fraction: float = Field(default=0.2, ge=0, lt=1)
    min_images: int = Field(default=2, ge=2, le=1_000_000)

    @model_validator(mode="after")
    def _leave_an_index(self) -> DataSetConfig:
        if self.query_fraction + self.train_fraction >= 1:
            raise ValueError(
                f"query_fraction {self.query_fraction} + train_fraction {self.train_fraction} leave nothing "
                "for the index; their sum must be below 1"
            )
        return self


def prepare_image_table(raw: pd.DataFrame, config: DataSetConfig | None = None) -> pd.DataFrame:
    """Check a raw table, draw its splits where they are missing, and put it in the order of rows.

    Args:
        raw: columns `image_id` and `path`; optionally `landmark_id` (whole numbers or empty), `landmark`
            (names; one without an id takes that of its name, or a new one along the sorted names), `split`,
            `usage` and `OPTIONAL_COLUMNS`. Other columns are dropped. When its index is named `line`, errors
            name that line of `raw.attrs["table"]`.
        config: how splits are drawn when the table has no column `split`; the defaults when None.

    Returns:
        The prepared table: columns `COLUMNS` and those of `OPTIONAL_COLUMNS` that `raw` has, RangeIndex, rows
        ordered query, index, train.

    Raises:
        LandmarkRetrievalError: names all faults at once: a column is missing; an id is missing, used twice or
            holds white space, a comma or a quote; a split, usage or landmark id is not an allowed value; one
            file has two splits or landmarks; a crop is not four numbers. Or there are no index images, or a
            list names an image that is not in the index.
    """
    config = config or DataSetConfig()
    table = _with_columns(raw)
    found = problems(table)
    if found:
        raise ProblemsError(_name(table), found)
    table["landmark_id"] = _landmark_ids(table)
    if table["split"].isna().all() and (
        table["landmark_id"].isna().all() or config.protocol == LEAVE_ONE_OUT
    ):
        table["split"] = "index"
    elif table["split"].isna().all():
        table["split"] = draw_splits(
            table["image_id"].tolist(),
            landmark_of(table),
            seed=config.seed,
            query_fraction=config.query_fraction,
            train_fraction=config.train_fraction,
            min_images=config.min_images,
        )
        logger.info("%s: splits drawn with seed %d", _name(table), config.seed)
    if config.protocol == LEAVE_ONE_OUT:
        table["split"] = table["split"].replace("query", "index")
    order = table["split"].map({split: rank for rank, split in enumerate(SPLITS)}).to_numpy()
    prepared = table.iloc[np.argsort(order, kind="stable")].reset_index(drop=True)
    _check_task(prepared)
    _log_summary(prepared)
    prepared.attrs.clear()
    return prepared


def prepare_collection(raw: RawCollection, config: DataSetConfig | None = None) -> pd.DataFrame:
    """Prepare the image table of what was found on disk.

    Raises:
        LandmarkRetrievalError: as `prepare_image_table`, together with what reading found at fault.
    """
    if raw.problems:
        complete = {"image_id", "path"} <= set(raw.table)
        others = problems(_with_columns(raw.table)) if complete else []
        raise ProblemsError(_name(raw.table), [*raw.problems, *others])
    return prepare_image_table(raw.table, config)


def _name(table: pd.DataFrame) -> str:
    return str(table.attrs.get("table", "image table"))


def _with_columns(raw: pd.DataFrame) -> pd.DataFrame:
    missing = [column for column in ("image_id", "path") if column not in raw]
    if missing:
        raise LandmarkRetrievalError(
            f"{_name(raw)}: column {', '.join(missing)} is missing; expected columns are path[, image_id]"
            f"[, split][, landmark_id][, landmark][, usage], found "
            f"{', '.join(map(str, raw.columns)) or 'none'}"
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
    return table


def _text(raw: pd.DataFrame, column: str) -> pd.Series:
    """Return a column as text, missing where empty; all but ids and paths are stripped and in NFC."""
    if column not in raw:
        return pd.Series(None, index=raw.index, dtype="str")
    text = raw[column].astype("string")
    if column not in ("image_id", "path"):
        text = text.str.strip().str.normalize("NFC")
    return text.mask(text == "").astype("str")


def _landmark_ids(table: pd.DataFrame) -> pd.Series:
    """Return the landmark of every row: its id, else that of its name, else a new one for the name."""
    numbers = table["landmark_id"].str.replace(r"\.0+$", "", regex=True).astype("Int64")
    names = table["landmark"]
    named = names[numbers.isna() & names.notna()]
    if not len(named):
        return numbers
    known = dict(zip(names[numbers.notna()], numbers[numbers.notna()], strict=True))
    first = int(numbers.max()) + 1 if numbers.notna().any() else 0
    new = sorted(set(named) - set(known))
    known |= {name: first + number for number, name in enumerate(new)}
    return numbers.fillna(names.map(known).astype("Int64"))


def _check_task(prepared: pd.DataFrame) -> None:
    rows = SplitRows.from_table(prepared)
    if rows.index.start == rows.index.stop:
        raise LandmarkRetrievalError(
            f"{_name(prepared)}: no image has split 'index', so there is nothing to find; give some images "
            "that split, or leave the column `split` out"
        )
    for column in LISTS:
        if column in prepared:
            listed_index_rows(prepared, column)


def _log_summary(prepared: pd.DataFrame) -> None:
    rows, name = SplitRows.from_table(prepared), _name(prepared)
    landmarks = landmark_of(prepared)
    index, train = landmarks[rows.index], rows.train.stop - rows.train.start
    known = len(np.unique(landmarks[landmarks != NO_LANDMARK]))
    if rows.among_themselves:
        logger.info(
            "%s: %d photos of %d landmarks, each asked against the others%s",
            name,
            len(index),
            known,
            f"; {train} train images" if train else "",
        )
    else:
        logger.info(
            "%s: %d queries, %d index images (%d without a landmark), %d train images, %d landmarks",
            name,
            rows.query.stop,
            len(index),
            int((index == NO_LANDMARK).sum()),
            train,
            known,
        )
    if not has_truth(prepared):
        logger.info(
            "%s: nothing says what a photo should find (landmark_id, landmark, relevant), so nothing is "
            "measured: no mAP, no ablation",
            name,
        )
        return
    lonely = sum(len(found) == 0 for found in relevant_index_rows(prepared))
    if lonely:
        logger.info("%s: %d photos have no other of their landmark to find and are not scored", name, lonely)
    if not train:
        logger.info(
            "%s: no train images, so semi-supervised EGT has no labels to use and equals plain EGT", name
        )

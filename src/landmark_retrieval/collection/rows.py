"""What a prepared image table says about its rows: splits, landmarks, and what every query should find."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from landmark_retrieval.errors import LandmarkRetrievalError

SPLITS = ("query", "index", "train")
"""The values of column `split`, in the order of the prepared table's rows."""

NO_LANDMARK = -1
"""What `landmark_of` gives for an image without a landmark."""

LISTS = ("relevant", "hard", "junk")
"""Optional columns of queries: ids of index images, separated by spaces."""


@dataclass(frozen=True)
class SplitRows:
    """The rows of every split in a prepared table.

    Without queries of its own a collection is asked about itself: every index image against the others. Such
    a query is an index row, so it has one description, its pairs are verified once, and it is left out
    wherever its own result is made: its list of neighbours, its traversal, what it should find.

    Attributes:
        query: rows of the queries, possibly none.
        index: rows of the index images.
        train: rows of the train images, possibly none.
    """

    query: slice
    index: slice
    train: slice

    @classmethod
    def from_table(cls, table: pd.DataFrame) -> SplitRows:
        """Read the rows of the splits from a prepared table.

        Args:
            table: as `prepare_image_table` returns it.

        Returns:
            One slice a split; slices are adjacent, in the order of `SPLITS`.

        Raises:
            LandmarkRetrievalError: the rows are not in the order query, index, train.
        """
        splits = table["split"].to_numpy(dtype=object)
        counts = [int((splits == split).sum()) for split in SPLITS]
        if not np.array_equal(splits, np.repeat(np.array(SPLITS, dtype=object), counts)):
            raise LandmarkRetrievalError(
                "the image table is not in the order query, index, train: delete it and run the "
                "features pipeline"
            )
        stops = np.cumsum(counts)
        return cls(*(slice(int(stop) - count, int(stop)) for stop, count in zip(stops, counts, strict=True)))

    @property
    def asked(self) -> slice:
        """The rows that are asked: the queries or, without any, all index images."""
        return self.index if self.among_themselves else self.query

    @property
    def among_themselves(self) -> bool:
        """Whether the index images are asked against each other."""
        return bool(self.query.start == self.query.stop)

    @property
    def own(self) -> NDArray[np.int64]:
        """The index row, int64 `[asked]`, that must not be found for each row that is asked; -1 for none."""
        asked = self.asked.stop - self.asked.start
        return np.arange(asked) if self.among_themselves else np.full(asked, -1)

    def __len__(self) -> int:
        return int(self.train.stop)


def split_counts(table: pd.DataFrame) -> dict[str, int]:
    """Return the number of images of each split of a prepared table, in the order of `SPLITS`."""
    return {split: int((table["split"] == split).sum()) for split in SPLITS}


def landmark_of(table: pd.DataFrame) -> NDArray[np.int64]:
    """Return the landmark id of every row, `[n]`, `NO_LANDMARK` (-1) where there is none."""
    return table["landmark_id"].fillna(NO_LANDMARK).to_numpy(dtype=np.int64)


def landmark_names(images: pd.DataFrame) -> dict[int, str]:
    """Return the name of every landmark of a prepared table: `landmark`, or its number where it has none."""
    known = images[images["landmark_id"].notna()].drop_duplicates("landmark_id")
    return {
        int(number): str(number) if pd.isna(name) else str(name)
        for number, name in zip(known["landmark_id"], known["landmark"], strict=True)
    }


def relevant_index_rows(table: pd.DataFrame) -> list[NDArray[np.int64]]:
    """Return what every query should find.

    Args:
        table: a prepared table.

    Returns:
        For every row that is asked (`SplitRows.asked`) the index images of its landmark but itself, or those
        that its entry in `relevant` lists where the table has that column; ascending, counted from 0 inside
        the index split; empty for one without a landmark or entry.
    """
    if "relevant" in table:
        return listed_index_rows(table, "relevant")
    rows = SplitRows.from_table(table)
    landmarks = landmark_of(table)
    queries, index = landmarks[rows.asked], landmarks[rows.index]
    order = np.argsort(index, kind="stable").astype(np.int64)
    starts = np.searchsorted(index, queries, side="left", sorter=order)
    stops = np.searchsorted(index, queries, side="right", sorter=order)
    nothing = np.empty(0, dtype=np.int64)
    found = [
        order[start:stop] if landmark != NO_LANDMARK else nothing
        for landmark, start, stop in zip(queries, starts, stops, strict=True)
    ]
    return _without(found, rows.own)


def has_truth(table: pd.DataFrame) -> bool:
    """Tell whether any image that is asked and counts has something to find; else nothing is measured."""
    usage = table["usage"].iloc[SplitRows.from_table(table).asked]
    counts = (usage != "Ignored").to_numpy(dtype=bool, na_value=True)
    return any(len(rows) > 0 for rows, one in zip(relevant_index_rows(table), counts, strict=True) if one)


def _without(found: list[NDArray[np.int64]], own: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Take each image out of what it should find."""
    if not len(own) or own[0] < 0:
        return found
    return [rows[rows != row] for rows, row in zip(found, own, strict=True)]


def listed_index_rows(table: pd.DataFrame, column: str) -> list[NDArray[np.int64]]:
    """Return the index images that every query lists.

    Args:
        table: a prepared table.
        column: one of `LISTS`.

    Returns:
        For every query index rows, ascending and without repeats, counted from 0 inside the index split.

    Raises:
        LandmarkRetrievalError: a query lists an image that is not in the index.
    """
    rows = SplitRows.from_table(table)
    lists = table[column].iloc[rows.asked].reset_index(drop=True)
    listed = lists.dropna().str.split().explode().dropna()
    found = pd.Index(table["image_id"].iloc[rows.index]).get_indexer(pd.Index(listed))
    if (found < 0).any():
        position = int((found < 0).argmax())
        query = table["image_id"].iloc[int(listed.index[position])]
        raise LandmarkRetrievalError(
            f"{table.attrs.get('table', 'image table')}: query '{query}' lists '{listed.iloc[position]}' as "
            f"{column}, which is not an index image; the ground truth and the index must belong together"
        )
    pairs = np.unique(
        np.stack([listed.index.to_numpy(dtype=np.int64), found.astype(np.int64)], axis=1), axis=0
    )
    split = np.split(pairs[:, 1], np.searchsorted(pairs[:, 0], np.arange(1, len(lists))))
    return _without(split, rows.own)

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

    Attributes:
        query: rows of the queries.
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
        For every query the index images of its landmark, or those that its entry in `relevant` lists where
        the table has that column; ascending, counted from 0 inside the index split; empty for a query without
        a landmark or entry.
    """
    if "relevant" in table:
        return listed_index_rows(table, "relevant")
    rows = SplitRows.from_table(table)
    landmarks = landmark_of(table)
    queries, index = landmarks[rows.query], landmarks[rows.index]
    order = np.argsort(index, kind="stable").astype(np.int64)
    starts = np.searchsorted(index, queries, side="left", sorter=order)
    stops = np.searchsorted(index, queries, side="right", sorter=order)
    nothing = np.empty(0, dtype=np.int64)
    return [
        order[start:stop] if landmark != NO_LANDMARK else nothing
        for landmark, start, stop in zip(queries, starts, stops, strict=True)
    ]


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
    lists = table[column].iloc[rows.query].reset_index(drop=True)
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
    return np.split(pairs[:, 1], np.searchsorted(pairs[:, 0], np.arange(1, len(lists))))

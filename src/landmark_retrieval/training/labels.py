"""Which images of a table are trained on."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from landmark_retrieval.collection import SplitRows, landmark_of
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.images import Source, image_sources


def labelled_train_images(table: pd.DataFrame) -> tuple[list[Source], NDArray[np.int64]]:
    """Return the train images of landmarks that have two or more, and their labels from 0 on.

    Args:
        table: prepared image table.

    Raises:
        LandmarkRetrievalError: fewer than two landmarks have two train images.
    """
    rows = SplitRows.from_table(table)
    train = np.arange(rows.train.start, rows.train.stop)
    landmarks = landmark_of(table)[train]
    names, counts = np.unique(landmarks[landmarks >= 0], return_counts=True)
    usable = names[counts >= 2]
    if len(usable) < 2:
        raise LandmarkRetrievalError(
            f"training: the train split has {len(usable)} landmarks with two images or more, at least two "
            "are needed; label more train images"
        )
    kept = np.isin(landmarks, usable)
    return image_sources(table.iloc[train[kept]]), np.searchsorted(usable, landmarks[kept]).astype(np.int64)


def rows_by_label(labels: NDArray[np.int64]) -> dict[int, NDArray[np.int64]]:
    """Return the rows of each label, both rising; one sort, however many labels there are.

    Args:
        labels: int64 `[n]`.
    """
    order = np.argsort(labels, kind="stable").astype(np.int64)
    names, starts = np.unique(labels[order], return_index=True)
    return dict(zip(names.tolist(), np.split(order, starts[1:]), strict=True)) if len(names) else {}

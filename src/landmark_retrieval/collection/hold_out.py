"""A small data set made of the train split alone, to choose parameters on."""

from __future__ import annotations

import numpy as np
import pandas as pd

from landmark_retrieval.collection.image_table import COLUMNS, SplitRows, landmark_of, prepare_image_table
from landmark_retrieval.collection.splits import draw_splits
from landmark_retrieval.errors import LandmarkRetrievalError

SOURCE_ROW = "source_row"
"""Column of a held-out table: the row of the image in the table it was taken from."""

SMALLEST_LANDMARK = 4
"""Fewest train images of a landmark that is held out: a query, an index image and two that vote."""


def hold_out_train(
    table: pd.DataFrame,
    *,
    seed: int,
    query_fraction: float,
    train_fraction: float,
    max_landmarks: int,
    absent_fraction: float = 0.0,
) -> pd.DataFrame:
    """Divide the train images anew into query, index and train; queries and index stay out of it.

    Args:
        table: a prepared table.
        seed: seed of the draw of landmarks and of their images.
        query_fraction: share of a landmark's images that become queries.
        train_fraction: share of a landmark's images that stay train images.
        max_landmarks: landmarks used at most.
        absent_fraction: share of the landmarks that have no train images: none of their labels votes, as in a
            collection whose landmarks are not all labelled.

    Returns:
        A prepared table with the further column `SOURCE_ROW`. Landmarks with fewer than
        `SMALLEST_LANDMARK` train images, and train images without a landmark, serve as distractors in its
        index.

    Raises:
        LandmarkRetrievalError: no landmark has enough train images.
    """
    rows = SplitRows.from_table(table)
    source = np.arange(rows.train.start, rows.train.stop)
    landmarks = landmark_of(table)[source]
    labels, counts = np.unique(landmarks[landmarks >= 0], return_counts=True)
    if not (counts >= SMALLEST_LANDMARK).any():
        raise LandmarkRetrievalError(
            f"the train split has no landmark with {SMALLEST_LANDMARK} images (the largest has "
            f"{counts.max(initial=0)}), so nothing can be held out to choose parameters on; label more train "
            "images (in a folder without images.csv: a larger data_set.train_fraction) or set the parameters "
            "yourself"
        )
    drawn = np.random.default_rng(seed).permutation(labels)[:max_landmarks]
    kept = np.isin(landmarks, drawn) | (landmarks < 0)
    source, landmarks = source[kept], landmarks[kept]
    taken = table.iloc[source][[column for column in COLUMNS if column not in ("split", "usage")]]
    taken = taken.assign(**{SOURCE_ROW: source}).reset_index(drop=True)
    taken["split"] = draw_splits(
        taken["image_id"].tolist(),
        landmarks,
        seed=seed,
        query_fraction=query_fraction,
        train_fraction=train_fraction,
        min_images=SMALLEST_LANDMARK,
    )
    large = drawn[np.isin(drawn, labels[counts >= SMALLEST_LANDMARK])]
    absent = np.isin(landmarks, large[: round(absent_fraction * len(large))])
    unrelated = absent & (taken["split"] == "train") | (landmarks < 0)
    taken["split"] = taken["split"].where(~unrelated, "index")
    prepared = prepare_image_table(taken.drop(columns=SOURCE_ROW))
    by_id = taken.set_index("image_id")[SOURCE_ROW]
    return prepared.assign(**{SOURCE_ROW: by_id.loc[prepared["image_id"]].to_numpy()})

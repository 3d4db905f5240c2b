"""Nodes of the own_features pipeline."""

from __future__ import annotations

import pandas as pd

from landmark_retrieval.collection import RawCollection
from landmark_retrieval.descriptors import BlendConfig, Descriptors
from landmark_retrieval.descriptors.imported import ImportConfig, ImportSteps, read_own_descriptors


def import_descriptors(
    photos: RawCollection, images: pd.DataFrame, config: ImportConfig, blend: BlendConfig
) -> tuple[Descriptors, ImportSteps]:
    """Read the files of descriptors, put them in the order of the image table, blend them."""
    return read_own_descriptors(photos.table, images, config, blend)


def skip_nothing(images: pd.DataFrame) -> pd.DataFrame:
    """Return the table of images that could not be read, which is empty: no photo is read."""
    return images.loc[[], ["image_id", "split"]].assign(reason="")

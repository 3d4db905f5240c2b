"""Nodes of the own_features pipeline."""

from __future__ import annotations

import numpy as np
import pandas as pd

from landmark_retrieval.collection import RawCollection
from landmark_retrieval.descriptors import BlendConfig, Descriptors
from landmark_retrieval.descriptors.imported import (
    ImportConfig,
    ImportSteps,
    match_ids,
    read_own_descriptors,
)
from landmark_retrieval.local_features import LocalFeaturesConfig, StoredFeatures
from landmark_retrieval.local_features.imported import group_names, nobodys_features, take_local_features
from landmark_retrieval.runtime.sharding import ExecutorConfig
from landmark_retrieval.runtime.store import Store


def import_descriptors(
    photos: RawCollection, images: pd.DataFrame, config: ImportConfig, blend: BlendConfig
) -> tuple[Descriptors, ImportSteps]:
    """Read the files of descriptors, put them in the order of the image table, blend them."""
    return read_own_descriptors(photos.table, images, config, blend)


def import_local_features(
    images: pd.DataFrame,
    store: Store,
    config: ImportConfig,
    local_features: LocalFeaturesConfig,
    executor: ExecutorConfig,
) -> tuple[StoredFeatures, pd.DataFrame]:
    """Take the local features of a file into the store, where one is given; no photo is turned."""
    oriented = images.assign(turn=0)
    if config.local_features is None:
        return nobodys_features(len(images)), oriented
    names = group_names(config.local_features)
    rows = match_ids(np.array(names), images)
    return take_local_features(
        config.local_features, images, rows, names, store, local_features, executor
    ), oriented


def skip_nothing(images: pd.DataFrame) -> pd.DataFrame:
    """Return the table of images that could not be read, which is empty: no photo is read."""
    return images.loc[[], ["image_id", "split"]].assign(reason="")

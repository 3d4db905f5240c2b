"""PCA of local descriptors, for extractors whose raw features are long (DELF)."""

from __future__ import annotations

import logging
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from landmark_retrieval.collection.image_table import SplitRows
from landmark_retrieval.configuration import digest
from landmark_retrieval.descriptors.covariance import Covariance
from landmark_retrieval.descriptors.whitening import Whitening, WhiteningConfig, whitening_from_moments
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.images import (
    UnreadableImageError,
    image_sources,
    load_image,
    resize_long_side,
)
from landmark_retrieval.local_features.config import DelfConfig, LocalFeaturesConfig
from landmark_retrieval.runtime.sharding import ExecutorConfig
from landmark_retrieval.runtime.store import Request, Store
from landmark_retrieval.runtime.store_files import Arrays

logger = logging.getLogger(__name__)

VERSION = 1
"""Raised whenever the same parameters would give another PCA, so that it is learned anew."""


def learn_local_pca(
    table: pd.DataFrame,
    keys: NDArray[np.str_],
    store: Store,
    config: LocalFeaturesConfig,
    executor: ExecutorConfig | None = None,
) -> Whitening:
    """Learn the PCA where the extractor needs one and the store does not hold it yet.

    Args:
        table: prepared image table.
        keys: `images.photo_keys` of its photos.
        store: where what was learned is kept.
        config: parameters; extractors other than DELF need no PCA.
        executor: where it is learned; default: in this process.
    """
    from landmark_retrieval.local_features.extraction import extractor_identity

    if not isinstance(config.extractor, DelfConfig):
        return Whitening.none()
    rows = _pca_rows(table, config.extractor)
    options = config.model_dump(mode="json", include={"max_side", "max_keypoints"})
    parameters = {"version": VERSION, "extractor": extractor_identity(config.extractor), **options}

    def prepare(_: NDArray[np.int64]) -> partial[Arrays]:
        return partial(_pca_shard, table.iloc[rows], config)

    request = Request("PCA of local features", "layer", prepare, 1, executor=executor or ExecutorConfig())
    namespace = store.namespace("local_pca", parameters)
    found = namespace.fill(np.array([digest(keys[rows].tolist())]), request).places
    return Whitening(found.read("mean")[0], found.read("projection")[0])


def _pca_shard(chosen: pd.DataFrame, config: LocalFeaturesConfig) -> Arrays:
    pca = fit_local_pca(chosen, config)
    return {"mean": pca.mean[None], "projection": pca.projection[None]}


def fit_local_pca(table: pd.DataFrame, config: LocalFeaturesConfig) -> Whitening:
    """Learn the PCA of DELF's features on train images (index images where there are none).

    Args:
        table: prepared image table.
        config: parameters; extractors other than DELF need no PCA.

    Returns:
        The projection to `extractor.dimensions` (Noh et al., section 4.4), or none.

    Raises:
        LandmarkRetrievalError: no image with features, or fewer features than dimensions.
    """
    extractor = config.extractor
    if not isinstance(extractor, DelfConfig):
        return Whitening.none()
    from landmark_retrieval.local_features.extraction import build_extractor

    chosen = _pca_rows(table, extractor)
    split = table["split"].iloc[chosen[0]] if len(chosen) else "index"
    logger.info("PCA of DELF features: learned on %d images of the %s split", len(chosen), split)
    model = build_extractor(extractor)
    moments = Covariance(model.dimensions)
    for source in image_sources(table.iloc[chosen]):
        try:
            image = resize_long_side(load_image(source), config.max_side)
        except UnreadableImageError:
            continue
        moments.update(model.extract(image, config.max_keypoints).descriptors)
    if moments.count <= extractor.dimensions:
        raise LandmarkRetrievalError(
            f"local_features: {moments.count} DELF features on {len(chosen)} images of the {split} split are "
            f"too few for {extractor.dimensions} dimensions; lower local_features.extractor.dimensions"
        )
    rotation = WhiteningConfig(dimensions=extractor.dimensions, shrinkage=0.0, power=0.0)
    return whitening_from_moments(moments, rotation)


def _pca_rows(table: pd.DataFrame, extractor: DelfConfig) -> NDArray[np.int64]:
    """Return table rows of the train split, of the index where it is empty, at most `pca_images` of them."""
    rows = SplitRows.from_table(table)
    split = rows.train if rows.train.stop > rows.train.start else rows.index
    chosen = np.arange(split.start, split.stop, dtype=np.int64)
    if len(chosen) > extractor.pca_images:
        chosen = chosen[np.linspace(0, len(chosen) - 1, extractor.pca_images).round().astype(int)]
    return chosen

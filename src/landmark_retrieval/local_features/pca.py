"""PCA of local descriptors, for extractors whose raw features are long (DELF)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from landmark_retrieval.collection.image_table import SplitRows
from landmark_retrieval.configuration import digest
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.images import (
    UnreadableImageError,
    image_sources,
    load_image,
    resize_long_side,
    source_contents,
)
from landmark_retrieval.local_features.config import DelfConfig, LocalFeaturesConfig
from landmark_retrieval.runtime.sharding import ExecutorConfig, ShardPlan, ShardStore, ShardTask

logger = logging.getLogger(__name__)

VERSION = 1
"""Raised whenever the same parameters would give another PCA, so that it is learned anew."""


@dataclass(frozen=True)
class LocalPca:
    """Projection of local descriptors.

    Attributes:
        mean: float32 `[d]`.
        projection: float32 `[d, e]`; `[0, 0]` stands for "no projection".
    """

    mean: NDArray[np.float32]
    projection: NDArray[np.float32]

    @classmethod
    def none(cls) -> LocalPca:
        """Return the projection that changes nothing."""
        return cls(np.zeros(0, np.float32), np.zeros((0, 0), np.float32))

    @property
    def is_none(self) -> bool:
        """Whether descriptors stay as they are."""
        return self.projection.size == 0

    def apply(self, descriptors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return projected, L2-normalised descriptors `[m, e]`."""
        projected = (descriptors - self.mean) @ self.projection
        norms = np.linalg.norm(projected, axis=1, keepdims=True)
        return np.asarray(projected / np.maximum(norms, 1e-12), np.float32)


def plan_local_pca(
    table: pd.DataFrame, config: LocalFeaturesConfig, executor: ExecutorConfig | None = None
) -> ShardPlan:
    """Plan the learning of the PCA, one shard, so that it is learned once.

    Args:
        table: prepared image table.
        config: parameters; extractors other than DELF need no PCA.
        executor: where it is learned; default: in this process.

    Returns:
        A plan whose shard holds the arrays of `LocalPca`; `read_local_pca` reads it.
    """
    from landmark_retrieval.local_features.extraction import extractor_identity

    chosen, options = table.iloc[:0], {}
    if isinstance(config.extractor, DelfConfig):
        chosen = table.iloc[_pca_rows(table, config.extractor)]
        options = config.model_dump(mode="json", include={"extractor", "max_side", "max_keypoints"})
    identity = extractor_identity(config.extractor)
    fingerprint = digest(VERSION, options and identity, options, source_contents(image_sources(chosen)))
    executor = executor or ExecutorConfig()
    task = ShardTask("local-pca", fingerprint, executor.alike(partial(_pca_shard, chosen, config)))
    return ShardPlan("PCA of local features", [task], executor, parameters=options)


def read_local_pca(store: ShardStore) -> LocalPca:
    """Return what a plan of `plan_local_pca` has learned."""
    (shard,) = store
    return LocalPca(shard["mean"], shard["projection"])


def _pca_shard(chosen: pd.DataFrame, config: LocalFeaturesConfig) -> dict[str, NDArray[np.float32]]:
    pca = fit_local_pca(chosen, config)
    return {"mean": pca.mean, "projection": pca.projection}


def fit_local_pca(table: pd.DataFrame, config: LocalFeaturesConfig) -> LocalPca:
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
        return LocalPca.none()
    from landmark_retrieval.local_features.extraction import build_extractor

    chosen = _pca_rows(table, extractor)
    split = table["split"].iloc[chosen[0]] if len(chosen) else "index"
    logger.info("PCA of DELF features: learned on %d images of the %s split", len(chosen), split)
    model = build_extractor(extractor)
    count, total = 0, np.zeros(model.dimensions)
    products = np.zeros((model.dimensions, model.dimensions))
    for source in image_sources(table.iloc[chosen]):
        try:
            image = resize_long_side(load_image(source), config.max_side)
        except UnreadableImageError:
            continue
        features = model.extract(image, config.max_keypoints).descriptors.astype(np.float64)
        count += len(features)
        total += features.sum(axis=0)
        products += features.T @ features
    if count <= extractor.dimensions:
        raise LandmarkRetrievalError(
            f"local_features: {count} DELF features on {len(chosen)} images of the {split} split are too few "
            f"for {extractor.dimensions} dimensions; lower local_features.extractor.dimensions"
        )
    mean = total / count
    variances, axes = np.linalg.eigh(products / count - np.outer(mean, mean))
    axes = axes[:, np.argsort(-variances, kind="stable")[: extractor.dimensions]]
    signs = np.where(axes.sum(axis=0) < 0, -1.0, 1.0)
    return LocalPca(mean.astype(np.float32), (axes * signs).astype(np.float32))


def _pca_rows(table: pd.DataFrame, extractor: DelfConfig) -> NDArray[np.int64]:
    """Return table rows of the train split, of the index where it is empty, at most `pca_images` of them."""
    rows = SplitRows.from_table(table)
    split = rows.train if rows.train.stop > rows.train.start else rows.index
    chosen = np.arange(split.start, split.stop, dtype=np.int64)
    if len(chosen) > extractor.pca_images:
        chosen = chosen[np.linspace(0, len(chosen) - 1, extractor.pca_images).round().astype(int)]
    return chosen

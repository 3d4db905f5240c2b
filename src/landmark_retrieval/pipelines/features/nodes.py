"""Nodes of the features pipeline: each adapts catalog artifacts to one function of a domain package."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd

from landmark_retrieval.collection import (
    DataSetConfig,
    ImageContents,
    RawCollection,
    digest_photos,
    prepare_collection,
)
from landmark_retrieval.collection.audit import audit_files, audit_in_words, leaks
from landmark_retrieval.descriptors import (
    BlendConfig,
    Descriptors,
    GlobalDescriptorConfig,
    RawDescriptors,
    Whitening,
    blend,
    check_ids,
    describe_photos,
    learn_region_whitening,
    learn_whitening,
    whiten_rows,
)
from landmark_retrieval.local_features import (
    LocalFeaturesConfig,
    StoredFeatures,
    extract_local_features,
    learn_local_pca,
)
from landmark_retrieval.runtime.sharding import ExecutorConfig
from landmark_retrieval.runtime.store import Store

logger = logging.getLogger(__name__)


def prepare_images(photos: RawCollection, config: DataSetConfig) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Check the image table, draw its splits when it has none, and order it query, index, train.

    Returns the files that were met beside it.
    """
    return prepare_collection(photos, config), photos.files


def digest_images(images: pd.DataFrame, store: Store, executor: ExecutorConfig) -> ImageContents:
    """Digest all photos, by which their results are kept."""
    return digest_photos(images, store, executor)


def fit_whitening_layer(
    images: pd.DataFrame,
    contents: ImageContents,
    store: Store,
    config: GlobalDescriptorConfig,
    executor: ExecutorConfig,
) -> Whitening:
    """Learn the whitening layer that follows the pooling of regions."""
    return learn_region_whitening(images, contents, store, config, executor)


def extract_descriptors(
    images: pd.DataFrame,
    contents: ImageContents,
    store: Store,
    region_whitening: Whitening,
    config: GlobalDescriptorConfig,
    executor: ExecutorConfig,
) -> RawDescriptors:
    """Describe every image at several scales."""
    return describe_photos(images, contents, store, region_whitening, config, executor)


def fit_descriptor_whitening(
    raw: RawDescriptors, images: pd.DataFrame, config: GlobalDescriptorConfig
) -> Whitening:
    """Learn the whitening of finished descriptors."""
    return learn_whitening(raw.matrix, images, config.whitening, config.trained)


def whiten_descriptors(
    raw: RawDescriptors, whitening: Whitening, images: pd.DataFrame, config: GlobalDescriptorConfig
) -> Descriptors:
    """Whiten every descriptor; the matrix is streamed, never held as a whole."""
    ids = images["image_id"].to_numpy(dtype=str)
    return Descriptors(ids, whiten_rows(raw.matrix, whitening, config.storage))


def blend_descriptors(images: pd.DataFrame, config: BlendConfig, *parts: Descriptors) -> Descriptors:
    """Concatenate the global descriptors."""
    for part in parts:
        check_ids(part, images)
    return blend(parts, config)


def fit_local_features_pca(
    images: pd.DataFrame,
    contents: ImageContents,
    store: Store,
    config: LocalFeaturesConfig,
    executor: ExecutorConfig,
) -> Whitening:
    """Learn the projection of local descriptors, where the extractor needs one."""
    return learn_local_pca(images, contents.keys, store, config, executor)


def extract_features(
    images: pd.DataFrame,
    contents: ImageContents,
    store: Store,
    pca: Whitening,
    config: LocalFeaturesConfig,
    executor: ExecutorConfig,
) -> StoredFeatures:
    """Extract local features of every image."""
    return extract_local_features(images, contents.keys, store, config, executor, pca)


def audit_photos(
    met_files: pd.DataFrame, images: pd.DataFrame, contents: ImageContents, skipped: pd.DataFrame
) -> pd.DataFrame:
    """Say of every file what became of it, and count them in the log."""
    audit = audit_files(met_files, images, contents.digests, skipped)
    logger.info("%s", audit_in_words(audit))
    for one, two in leaks(audit, images)[:3]:
        logger.warning("%s and %s have the same bytes but different splits: figures are too good", one, two)
    return audit


def collect_skipped_images(
    images: pd.DataFrame, descriptors: RawDescriptors, local_features: StoredFeatures
) -> pd.DataFrame:
    """List the images that could not be read, with the reason."""
    reasons = {
        int(row): str(reason)
        for skipped in (local_features, descriptors)
        for row, reason in zip(skipped.skipped, skipped.reasons, strict=True)
    }
    rows = np.array(sorted(reasons), dtype=np.int64)
    return pd.DataFrame(
        {
            "image_id": images["image_id"].to_numpy(dtype=str)[rows],
            "split": images["split"].to_numpy(dtype=str)[rows],
            "reason": [reasons[int(row)] for row in rows],
        }
    )

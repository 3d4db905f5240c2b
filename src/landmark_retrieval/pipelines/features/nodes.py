"""Nodes of the features pipeline: each adapts catalog artifacts to one function of a domain package."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd

from landmark_retrieval.collection import (
    DataSetConfig,
    RawCollection,
    plan_image_contents,
    prepare_collection,
    read_image_contents,
    skipped_images,
)
from landmark_retrieval.collection.audit import audit_files, audit_in_words, leaks
from landmark_retrieval.descriptors import (
    BlendConfig,
    Descriptors,
    GlobalDescriptorConfig,
    Whitening,
    blend,
    check_ids,
    gather_shards,
    learn_whitening,
    plan_global_extraction,
    plan_region_whitening,
    whiten_rows,
)
from landmark_retrieval.local_features import (
    LocalFeaturesConfig,
    plan_local_extraction,
    plan_local_pca,
    read_local_pca,
)
from landmark_retrieval.runtime.sharding import ExecutorConfig, ShardPlan, ShardStore

logger = logging.getLogger(__name__)


def prepare_images(photos: RawCollection, config: DataSetConfig) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Check the image table, draw its splits when it has none, and order it query, index, train.

    Returns the files that were met beside it.
    """
    return prepare_collection(photos, config), photos.files


def digest_images(images: pd.DataFrame, executor: ExecutorConfig) -> ShardPlan:
    """Plan the digests of all photos, by which changed ones are known."""
    return plan_image_contents(images, executor)


def fit_whitening_layer(
    images: pd.DataFrame, config: GlobalDescriptorConfig, executor: ExecutorConfig
) -> ShardPlan:
    """Plan the learning of the whitening layer that follows the pooling of regions."""
    return plan_region_whitening(images, config, executor)


def extract_descriptors(
    images: pd.DataFrame,
    contents: ShardStore,
    region_whitening: ShardStore,
    config: GlobalDescriptorConfig,
    executor: ExecutorConfig,
) -> ShardPlan:
    """Plan the description of every image at several scales."""
    contents_of_images = read_image_contents(contents)
    return plan_global_extraction(images, config, executor, region_whitening, contents_of_images)


def fit_descriptor_whitening(
    raw: ShardStore, images: pd.DataFrame, config: GlobalDescriptorConfig
) -> Whitening:
    """Learn the whitening of finished descriptors."""
    return learn_whitening(gather_shards(raw, len(images)), images, config.whitening, config.trained)


def whiten_descriptors(
    raw: ShardStore, whitening: Whitening, images: pd.DataFrame, config: GlobalDescriptorConfig
) -> Descriptors:
    """Whiten every descriptor; the matrix is streamed, never held as a whole."""
    ids = images["image_id"].to_numpy(dtype=str)
    return Descriptors(ids, whiten_rows(gather_shards(raw, len(images)), whitening, config.storage))


def blend_descriptors(images: pd.DataFrame, config: BlendConfig, *parts: Descriptors) -> Descriptors:
    """Concatenate the global descriptors."""
    for part in parts:
        check_ids(part, images)
    return blend(parts, config)


def fit_local_features_pca(
    images: pd.DataFrame, config: LocalFeaturesConfig, executor: ExecutorConfig
) -> ShardPlan:
    """Plan the learning of the projection of local descriptors, where the extractor needs one."""
    return plan_local_pca(images, config, executor)


def extract_local_features(
    images: pd.DataFrame,
    contents: ShardStore,
    pca: ShardStore,
    config: LocalFeaturesConfig,
    executor: ExecutorConfig,
) -> ShardPlan:
    """Plan the extraction of local features of every image."""
    return plan_local_extraction(images, config, executor, read_local_pca(pca), read_image_contents(contents))


def audit_photos(
    met_files: pd.DataFrame, images: pd.DataFrame, contents: ShardStore, skipped: pd.DataFrame
) -> pd.DataFrame:
    """Say of every file what became of it, and count them in the log."""
    audit = audit_files(met_files, images, read_image_contents(contents), skipped)
    logger.info("%s", audit_in_words(audit))
    for one, two in leaks(audit, images)[:3]:
        logger.warning("%s and %s have the same bytes but different splits: figures are too good", one, two)
    return audit


def collect_skipped_images(
    images: pd.DataFrame, descriptors: ShardStore, local_features: ShardStore
) -> pd.DataFrame:
    """List the images that could not be read, with the reason."""
    skipped = skipped_images(local_features) + skipped_images(descriptors)
    reasons = {image.row: image.reason for image in skipped}
    rows = np.array(sorted(reasons), dtype=np.int64)
    return pd.DataFrame(
        {
            "image_id": images["image_id"].to_numpy(dtype=str)[rows],
            "split": images["split"].to_numpy(dtype=str)[rows],
            "reason": [reasons[int(row)] for row in rows],
        }
    )

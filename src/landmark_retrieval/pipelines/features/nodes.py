"""Nodes of the features pipeline: each adapts catalog artifacts to one function of a domain package."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from landmark_retrieval.collection import (
    DataSetConfig,
    ImageContents,
    RawCollection,
    SplitRows,
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
from landmark_retrieval.descriptors.aggregated import (
    AggregatedConfig,
    Codebook,
    aggregate_rows,
    aggregated_descriptors,
    stored_codebook,
)
from landmark_retrieval.descriptors.matrix import make_blocks
from landmark_retrieval.images import image_sources, photo_keys
from landmark_retrieval.knn import KnnConfig
from landmark_retrieval.local_features import (
    LocalFeaturesConfig,
    LocalFeatureStore,
    StoredFeatures,
    extract_local_features,
    learn_local_pca,
)
from landmark_retrieval.runtime.sharding import ExecutorConfig
from landmark_retrieval.runtime.store import Store
from landmark_retrieval.verification import VerificationConfig, verify_pairs
from landmark_retrieval.verification.orientation import Standing

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


def learn_codebook(
    images: pd.DataFrame, local_features: StoredFeatures, store: Store, config: AggregatedConfig
) -> Codebook:
    """Learn visual words and axes for aggregated local features on the index."""
    index = SplitRows.from_table(images).index
    return stored_codebook(LocalFeatureStore(local_features), index, store, config)


def find_turns(
    images: pd.DataFrame,
    contents: ImageContents,
    upright: StoredFeatures,
    aggregated: Descriptors,
    codebook: Codebook,
    pca: Whitening,
    store: Store,
    local_features: LocalFeaturesConfig,
    verification: VerificationConfig,
    knn: KnnConfig,
    executor: ExecutorConfig,
    verification_executor: ExecutorConfig,
) -> tuple[pd.DataFrame, ImageContents]:
    """Find out how photos stand; return the table with a column `turn`, and what its photos are kept by."""
    turns = np.zeros(len(images), np.int64)
    if verification.turns and codebook.dimensions:
        turns = Standing(
            images=images,
            contents=contents.digests,
            features=upright,
            aggregated=aggregated.part(slice(0, len(images))),
            codebook=codebook,
            extract=lambda table, keys: extract_local_features(
                table, keys, store, local_features, executor, pca
            ),
            verify=lambda pairs, features: verify_pairs(
                pairs, features, store, verification, verification_executor
            ),
            knn=knn,
            min_inliers=verification.floor(upright.extractor),
        ).turns()
    oriented = images.assign(turn=turns)
    return oriented, ImageContents(contents.digests, photo_keys(image_sources(oriented), contents.digests))


def aggregate_oriented(
    images: pd.DataFrame, upright: Descriptors, local_features: StoredFeatures, codebook: Codebook
) -> Descriptors:
    """Aggregate the turned photos again; all others keep what they have."""
    features, turned = LocalFeatureStore(local_features), np.flatnonzero(images["turn"].to_numpy())

    def rows(part: slice) -> NDArray[np.float16]:
        block = np.array(upright.part(part))
        for row in turned[(turned >= part.start) & (turned < part.stop)].tolist():
            block[row - part.start] = aggregate_rows(features, codebook, slice(row, row + 1))[0]
        return block

    return Descriptors(
        upright.ids, make_blocks(rows, (len(images), upright.matrix.shape[1]), upright.matrix.dtype)
    )


def aggregate_features(
    images: pd.DataFrame, local_features: StoredFeatures, codebook: Codebook
) -> Descriptors:
    """Aggregate the local features of every image; features and result are streamed."""
    return aggregated_descriptors(LocalFeatureStore(local_features), codebook, images)


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

"""Extraction of local features from a table of images, in resumable shards."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from landmark_retrieval.configuration import digest
from landmark_retrieval.descriptors.backbones import weights_identity
from landmark_retrieval.descriptors.loading import in_background
from landmark_retrieval.descriptors.whitening import Whitening, apply_whitening
from landmark_retrieval.images import (
    Source,
    UnreadableImageError,
    content_digest,
    image_shards,
    load_image,
    resize_long_side,
)
from landmark_retrieval.local_features.base import LocalFeatureExtractor, LocalFeatures
from landmark_retrieval.local_features.config import (
    AlikedConfig,
    DelfConfig,
    DiskConfig,
    ExtractorConfig,
    LocalFeaturesConfig,
    SiftConfig,
    XFeatConfig,
)
from landmark_retrieval.runtime.devices import choose_device
from landmark_retrieval.runtime.heap import retained_heap
from landmark_retrieval.runtime.progress import image_progress
from landmark_retrieval.runtime.sharding import ExecutorConfig, ShardPlan, ShardTask

logger = logging.getLogger(__name__)

VERSION = 2
"""Raised whenever the same parameters would give other features, so that stored shards are made anew."""


def build_extractor(config: ExtractorConfig) -> LocalFeatureExtractor:
    """Return the extractor that a configuration describes; once per process and state of its files.

    Raises:
        LandmarkRetrievalError: weights cannot be had, or do not fit.
    """
    return _build_extractor(config, digest(extractor_identity(config)))


def extractor_identity(config: ExtractorConfig) -> dict[str, Any]:
    """Return what features depend on, for fingerprints: of files a digest of their content."""
    identity = config.model_dump(mode="json")
    if isinstance(config, DelfConfig):
        identity["backbone"] = weights_identity(config.backbone)
        identity["attention"] = config.attention and content_digest(config.attention)
    return identity


@lru_cache(maxsize=1)
def _build_extractor(config: ExtractorConfig, identity: str) -> LocalFeatureExtractor:
    # Each extractor brings its own large dependencies, so only the one that is asked for is imported.
    if isinstance(config, AlikedConfig):
        from landmark_retrieval.local_features.aliked import Aliked

        return Aliked(config)
    if isinstance(config, DiskConfig):
        from landmark_retrieval.local_features.disk import Disk

        return Disk(config)
    if isinstance(config, XFeatConfig):
        from landmark_retrieval.local_features.xfeat import XFeat

        return XFeat(config)
    if isinstance(config, SiftConfig):
        from landmark_retrieval.local_features.sift import Sift

        return Sift(config)
    assert isinstance(config, DelfConfig)
    from landmark_retrieval.local_features.delf import Delf

    return Delf(config)


def extract_features(
    image: Image.Image, config: LocalFeaturesConfig, pca: Whitening | None = None
) -> LocalFeatures:
    """Return the features of an upright image, keypoints in its own pixels.

    Args:
        image: as `images.load_image` gives it.
        config: parameters.
        pca: projection of the descriptors, for extractors that need one.
    """
    small = resize_long_side(image, config.max_side)
    found = build_extractor(config.extractor).extract(small, config.max_keypoints)
    zoom = np.array([image.width / small.width, image.height / small.height], np.float32)
    descriptors = found.descriptors.astype(np.float32)
    if pca is not None and not pca.is_none:
        descriptors = apply_whitening(descriptors, pca)
    return LocalFeatures(
        ((found.keypoints + 0.5) * zoom - 0.5).astype(np.float32),
        descriptors.astype(np.float16),
        found.scores.astype(np.float32),
        (found.scales * zoom.mean()).astype(np.float32),
        image.size,
    )


def plan_local_extraction(
    table: pd.DataFrame,
    config: LocalFeaturesConfig,
    executor: ExecutorConfig | None = None,
    pca: Whitening | None = None,
    contents: Sequence[str] | NDArray[np.str_] | None = None,
) -> ShardPlan:
    """Plan the extraction of the images of a table, without its train images if `config` says so.

    Keypoints of a turned image (column `turn`) are in pixels of the upright one.

    Shards hold `rows` int64 `[b]`, `offsets` int64 `[b + 1]` (image i has the features offsets[i] to
    offsets[i + 1]), `keypoints`, `descriptors` (float16), `scores`, `scales` as in `LocalFeatures`,
    `image_size` int32 `[b, 2]` (width, height) and `reasons` str `[b]` ("" where readable).

    Args:
        table: image table with `image_id`, `path` and optionally `crop`.
        config: parameters.
        executor: where shards are computed; default: in this process, which is right for a GPU.
        pca: what `fit_local_pca` returned.
        contents: what `read_image_contents` returned; None reads all images to digest them.
    """
    pca = pca or Whitening.none()
    extractor = digest(
        VERSION,
        extractor_identity(config.extractor),
        config.max_side,
        config.max_keypoints,
        hashlib.sha256(pca.mean.tobytes() + pca.projection.tobytes()).hexdigest(),
    )
    executor = executor or ExecutorConfig()
    alone = executor.backend == "sequential"  # the bars of several would write over each other
    tasks = []
    images = len(table) if config.train_images else int((table["split"] != "train").sum())
    for start, paths, state in image_shards(table.iloc[:images], config.shard_size, contents):
        compute = executor.alike(partial(compute_shard, start, paths, config, pca, alone))
        tasks.append(ShardTask(f"local-{start:08d}", digest(extractor, *state), compute))
    dimensions = build_extractor(config.extractor).dimensions if pca.is_none else pca.projection.shape[1]
    name = config.extractor.name
    metadata = {
        "extractor": name,
        "images": images,
        "dimensions": dimensions,
        "shard_size": config.shard_size,
        "max_side": config.max_side,
    }
    options = config.model_dump(mode="json", include={"extractor", "max_side", "max_keypoints"})
    return ShardPlan(f"local features ({name})", tasks, executor, metadata, options)


def compute_shard(
    start: int, paths: Sequence[Source], config: LocalFeaturesConfig, pca: Whitening, show_progress: bool
) -> dict[str, NDArray[Any]]:
    """Extract consecutive images; see `plan_local_extraction` for the arrays."""
    found: list[LocalFeatures] = []
    reasons = [""] * len(paths)
    dimensions = build_extractor(config.extractor).dimensions if pca.is_none else pca.projection.shape[1]
    with retained_heap(), image_progress(len(paths), "features", show_progress) as progress:
        for position, image in enumerate(_load_ahead(paths)):
            if isinstance(image, UnreadableImageError):
                logger.warning("unreadable image %s: %s", paths[position], image)
                reasons[position] = str(image)
                found.append(LocalFeatures.empty(dimensions))
            else:
                found.append(extract_features(image, config, pca).upright(paths[position]))
            progress.update()
    return {
        "rows": np.arange(start, start + len(paths), dtype=np.int64),
        "offsets": np.cumsum([0, *(len(features) for features in found)], dtype=np.int64),
        "keypoints": np.concatenate([features.keypoints for features in found]),
        "descriptors": np.concatenate([features.descriptors for features in found]),
        "scores": np.concatenate([features.scores for features in found]),
        "scales": np.concatenate([features.scales for features in found]),
        "image_size": np.array([features.size for features in found], np.int32),
        "reasons": np.array(reasons, dtype=str),
    }


def _load_ahead(paths: Sequence[Source]) -> Iterator[Image.Image | UnreadableImageError]:
    """Yield images in order, or why they cannot be read; beside a GPU they are decoded in the background."""
    if choose_device().type == "cpu":
        yield from map(_try_to_load, paths)
        return
    threads = min(16, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads, thread_name_prefix="image-loader") as pool:
        yield from in_background(pool, _try_to_load, paths, 2 * threads)


def _try_to_load(path: Source) -> Image.Image | UnreadableImageError:
    try:
        return load_image(path)
    except UnreadableImageError as error:
        return error

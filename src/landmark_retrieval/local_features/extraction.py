"""Local features of the photos of a table, extracted where the store does not hold them yet."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
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
    image_sources,
    load_image,
    resize_long_side,
    why_unreadable,
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
from landmark_retrieval.runtime.sharding import ExecutorConfig
from landmark_retrieval.runtime.store import PASSING, Request, Store
from landmark_retrieval.runtime.store_files import PARTS
from landmark_retrieval.runtime.threads import thread_count

logger = logging.getLogger(__name__)

VERSION = 2
"""Raised whenever the same parameters would give other features, so that all are made anew."""

KIND = "local_features"
"""Of the namespaces in the store."""


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


@dataclass(frozen=True)
class StoredFeatures:
    """Which local features the photos of a table have; they themselves lie in the store.

    Attributes:
        keys: str `[n]` what each photo's features are kept by, "" for a photo that cannot be read; train
            images are left out where the configuration says so.
        folder: address of their namespace, from the folder of the project where it lies in it.
        extractor: name.
        dimensions: of a descriptor.
        skipped: int64 `[s]` rows of photos without features because they cannot be read.
        reasons: str `[s]` why.
        parameters: that they depend on, as JSON.
    """

    keys: NDArray[np.str_]
    folder: str
    extractor: str
    dimensions: int
    skipped: NDArray[np.int64]
    reasons: NDArray[np.str_]
    parameters: str


def local_parameters(config: LocalFeaturesConfig, pca: Whitening | None = None) -> dict[str, Any]:
    """Return everything that local features depend on, readable."""
    pca = pca or Whitening.none()
    projection = hashlib.sha256(pca.mean.tobytes() + pca.projection.tobytes()).hexdigest()[:16]
    return {
        "version": VERSION,
        "extractor": extractor_identity(config.extractor),
        "max_side": config.max_side,
        "max_keypoints": config.max_keypoints,
        "pca": None if pca.is_none else projection,
    }


def extract_local_features(
    table: pd.DataFrame,
    keys: NDArray[np.str_],
    store: Store,
    config: LocalFeaturesConfig,
    executor: ExecutorConfig | None = None,
    pca: Whitening | None = None,
) -> StoredFeatures:
    """Extract the features of the photos of a table that have none yet.

    Keypoints of a turned image (column `turn`) are in pixels of the upright one.

    Args:
        table: image table with `path`, `split` and optionally `crop` and `turn`.
        keys: `images.photo_keys` of its photos.
        store: where features are kept.
        config: parameters; says whether train images get features, too.
        executor: where; default: in this process, which is right for a GPU.
        pca: what `learn_local_pca` returned.
    """
    pca, executor = pca or Whitening.none(), executor or ExecutorConfig()
    alone = executor.backend == "sequential"  # the bars of several would write over each other
    images = len(table) if config.train_images else int((table["split"] != "train").sum())
    sources, keys = image_sources(table.iloc[:images]), keys[:images]

    def prepare(rows: NDArray[np.int64]) -> partial[dict[str, NDArray[Any]]]:
        return partial(compute_shard, [sources[row] for row in rows], config, pca, alone)

    name, parameters = config.extractor.name, local_parameters(config, pca)
    namespace = store.namespace(KIND, parameters)
    request = Request(f"local features ({name})", "photo", prepare, config.shard_size, executor=executor)
    found = namespace.fill(keys, request)
    missing = {int(row): why_unreadable(sources[row]) for row in np.flatnonzero(keys == "")}
    reasons = {**missing, **found.reasons}
    skipped = np.array(sorted(reasons), np.int64)
    return StoredFeatures(
        keys=keys,
        folder=namespace.folder.below(Path.cwd()),
        extractor=name,
        dimensions=build_extractor(config.extractor).dimensions if pca.is_none else pca.projection.shape[1],
        skipped=skipped,
        reasons=np.array([reasons[row] for row in skipped.tolist()], dtype=str),
        parameters=json.dumps(parameters),
    )


def compute_shard(
    paths: Sequence[Source], config: LocalFeaturesConfig, pca: Whitening, show_progress: bool
) -> dict[str, NDArray[Any]]:
    """Extract images.

    Returns:
        `offsets` int64 `[b + 1]` (image i has the features offsets[i] to offsets[i + 1]), `parts.keypoints`,
        `parts.descriptors` (float16), `parts.scores`, `parts.scales` as in `LocalFeatures`, `image_size`
        int32 `[b, 2]` (width, height), `reasons` str `[b]` ("" where readable) and `passing` bool `[b]`.
    """
    found: list[LocalFeatures] = []
    reasons, passing = [""] * len(paths), np.zeros(len(paths), np.bool_)
    dimensions = build_extractor(config.extractor).dimensions if pca.is_none else pca.projection.shape[1]
    with retained_heap(), image_progress(len(paths), "features", show_progress) as progress:
        for position, image in enumerate(_load_ahead(paths)):
            if isinstance(image, UnreadableImageError):
                logger.warning("unreadable image %s: %s", paths[position], image)
                reasons[position], passing[position] = str(image), image.passing
                found.append(LocalFeatures.empty(dimensions))
            else:
                found.append(extract_features(image, config, pca).upright(paths[position]))
            progress.update()
    return {**shard_of(found), "reasons": np.array(reasons, dtype=str), PASSING: passing}


def shard_of(found: Sequence[LocalFeatures]) -> dict[str, NDArray[Any]]:
    """Return the features of some images as a shard of the store holds them (`compute_shard`)."""
    parts = {
        f"{PARTS}{name}": np.concatenate([getattr(features, name) for features in found])
        for name in ("keypoints", "descriptors", "scores", "scales")
    }
    return {
        **parts,
        "offsets": np.cumsum([0, *(len(features) for features in found)], dtype=np.int64),
        "image_size": np.array([features.size for features in found], np.int32),
        "reasons": np.full(len(found), ""),
        PASSING: np.zeros(len(found), np.bool_),
    }


def _load_ahead(paths: Sequence[Source]) -> Iterator[Image.Image | UnreadableImageError]:
    """Yield images in order, or why they cannot be read; beside a GPU they are decoded in the background."""
    if choose_device().type == "cpu":
        yield from map(_try_to_load, paths)
        return
    threads = min(16, thread_count(0))
    with ThreadPoolExecutor(threads, thread_name_prefix="image-loader") as pool:
        yield from in_background(pool, _try_to_load, paths, 2 * threads)


def _try_to_load(path: Source) -> Image.Image | UnreadableImageError:
    try:
        return load_image(path)
    except UnreadableImageError as error:
        return error

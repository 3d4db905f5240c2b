"""Reading stored local features, image by image."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.local_features.base import LocalFeatures
from landmark_retrieval.local_features.extraction import StoredFeatures
from landmark_retrieval.runtime.store_files import OFFSETS, PARTS, Folder
from landmark_retrieval.runtime.store_index import Index, Places, opened


class LocalFeatureStore:
    """Local features of the photos of a table; the latest ones stay in memory.

    Only the features of the image that is asked for are read, one piece of each array, so that verifying
    images whose neighbours lie anywhere among millions reads no others. What the cache has dropped is read
    again (docs/scaling.md).

    Args:
        stored: what `extract_local_features` returned.
        cache_bytes: memory for images.
        rows: image i of this store is image `rows[i]` of the stored table; None takes all as they are.
    """

    def __init__(
        self, stored: StoredFeatures, cache_bytes: int = 1 << 28, rows: NDArray[np.int64] | None = None
    ) -> None:
        if rows is not None and len(rows) and int(np.max(rows)) >= len(stored.keys):
            raise _beyond(int(np.max(rows)), len(stored.keys))
        self.keys = stored.keys if rows is None else stored.keys[np.asarray(rows, np.int64)]
        """What each image's features are kept by, str `[n]`, "" for none."""
        self.extractor, self.dimensions = stored.extractor, stored.dimensions
        # Workers elsewhere have another working folder.
        self.folder = Folder(stored.folder if "://" in stored.folder else str(Path(stored.folder).absolute()))
        self.cache_bytes = cache_bytes
        self._places: Places | None = None
        self._cache = FeatureCache(cache_bytes)

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.keys)

    @property
    def namespace(self) -> str:
        """Name of the namespace, by which results that depend on these features are kept."""
        return "/".join(self.folder.url.rsplit("/", 2)[-2:])

    def take(self, rows: NDArray[np.int64]) -> FeaturesOfImages:
        """Return a reader of some images that is small enough to send to another process.

        Raises:
            LandmarkRetrievalError: a row is beyond the image table of this store.
        """
        for row in (int(rows.min(initial=0)), int(rows.max(initial=0))):
            self._check(row)
        places = self._found().take(rows)
        return FeaturesOfImages(places, rows, self.dimensions, self.cache_bytes)

    def get(self, row: int) -> LocalFeatures:
        """Return the features of one image, none when it could not be read.

        Args:
            row: table row.

        Raises:
            LandmarkRetrievalError: the row is beyond the image table of this store.
        """
        self._check(row)
        return self._cache.get(row, lambda: read_features(self._found(), row, self.dimensions))

    def _check(self, row: int) -> None:
        if not 0 <= row < self.images:
            raise _beyond(row, self.images)

    def _found(self) -> Places:
        if self._places is None:
            index = Index.read(self.folder)
            index.refresh(self.folder.listing())
            self._places = index.find(np.asarray(self.keys, dtype=np.bytes_))
            gone = int(((self.keys != "") & ~self._places.there).sum())
            if gone == len(self.keys) and gone:
                raise LandmarkRetrievalError(
                    f"{self.folder.url}: no longer holds the local features; run the features pipeline again"
                )
        return self._places


class FeaturesOfImages:
    """Local features of some images, for another process; the latest ones stay in memory.

    Args:
        places: of their features.
        rows: int64 `[m]` table rows of the images.
        dimensions: of a descriptor.
        cache_bytes: memory for images.
    """

    def __init__(self, places: Places, rows: NDArray[np.int64], dimensions: int, cache_bytes: int) -> None:
        self.places, self.dimensions = places, dimensions
        self._position = {int(row): position for position, row in enumerate(rows)}
        self._cache = FeatureCache(cache_bytes)

    def get(self, row: int) -> LocalFeatures:
        """Return the features of one of the images by its table row."""
        return self._cache.get(row, lambda: read_features(self.places, self._position[row], self.dimensions))


class FeatureCache:
    """Features of the latest images.

    Args:
        size: bytes for them.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.images: OrderedDict[int, LocalFeatures] = OrderedDict()
        self.held = 0

    def get(self, row: int, read: Callable[[], LocalFeatures]) -> LocalFeatures:
        """Return the features of an image, read where they are not held."""
        if row in self.images:
            self.images.move_to_end(row)
            return self.images[row]
        features = self.images[row] = read()
        self.held += _bytes_of(features)
        while len(self.images) > 1 and self.held > self.size:
            self.held -= _bytes_of(self.images.popitem(last=False)[1])
        return features


def read_features(places: Places, position: int, dimensions: int) -> LocalFeatures:
    """Return the features at one of some places, none where there is no place.

    Args:
        places: of features in the store.
        position: among them.
        dimensions: of a descriptor.
    """
    if places.shard[position] < 0:
        return LocalFeatures.empty(dimensions)
    at = int(places.row[position])
    with opened(places.folder, places.names[int(places.shard[position])]) as shard:
        start, stop = (int(offset) for offset in shard.rows(OFFSETS, at, at + 2))
        width, height = (int(side) for side in shard.rows("image_size", at, at + 1)[0])
        return LocalFeatures(
            shard.rows(f"{PARTS}keypoints", start, stop),
            shard.rows(f"{PARTS}descriptors", start, stop),
            shard.rows(f"{PARTS}scores", start, stop),
            shard.rows(f"{PARTS}scales", start, stop),
            (width, height),
        )


def _beyond(row: int, images: int) -> LandmarkRetrievalError:
    return LandmarkRetrievalError(
        f"local features: there is no image row {row}, only {images}; run the features pipeline (train "
        "images need local_features.train_images: true)"
    )


def _bytes_of(features: LocalFeatures) -> int:
    parts = (features.keypoints, features.descriptors, features.scores, features.scales)
    return sum(part.nbytes for part in parts)

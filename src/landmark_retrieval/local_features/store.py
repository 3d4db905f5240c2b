"""Reading stored local features, image by image."""

from __future__ import annotations

from collections import OrderedDict
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.local_features.base import LocalFeatures
from landmark_retrieval.runtime.sharding import ShardStore


class LocalFeatureStore:
    """Local features of an image table, read from shards; the latest images stay in memory.

    Only the features of the image that is asked for are read, one piece of each array, so that verifying
    images whose neighbours lie anywhere among millions reads no others. What the cache has dropped is read
    again, in all each image about 8.5 times where it is compared with ten neighbours (docs/scaling.md).
    Instances are picklable, small, and take their cache along to nobody.

    Args:
        store: what a plan of `plan_local_extraction` has written.
        cache_bytes: memory for images.
        rows: image i of this store is image `rows[i]` of the stored table; None takes all as they are.

    Raises:
        LandmarkRetrievalError: the store holds something else.
    """

    def __init__(
        self, store: ShardStore, cache_bytes: int = 1 << 28, rows: NDArray[np.int64] | None = None
    ) -> None:
        self.store = store
        self.cache_bytes = cache_bytes
        self.rows = None if rows is None else np.asarray(rows, np.int64)
        self._cache: OrderedDict[int, LocalFeatures] = OrderedDict()
        self._held = 0
        metadata = self.manifest()["metadata"]
        if "extractor" not in metadata:
            raise LandmarkRetrievalError(f"{store.root}: holds no local features; run the features pipeline")
        self.images = int(metadata["images"]) if self.rows is None else len(self.rows)
        self.dimensions = int(metadata["dimensions"])
        self.shard_size = int(metadata["shard_size"])

    def __getstate__(self) -> dict[str, Any]:
        # The manifest names every shard; whoever unpickles reads it from the store.
        kept = {name: value for name, value in self.__dict__.items() if name != "_manifest"}
        return {**kept, "_cache": OrderedDict(), "_held": 0}

    @cached_property
    def _manifest(self) -> dict[str, Any]:
        return self.store.manifest()

    @property
    def extractor(self) -> str:
        """Name of the extractor."""
        return str(self._manifest["metadata"]["extractor"])

    def manifest(self) -> dict[str, Any]:
        """Return the manifest of the shards."""
        return dict(self._manifest)

    def get(self, row: int) -> LocalFeatures:
        """Return the features of one image, none when it could not be read.

        Args:
            row: table row.
        """
        name = self.shard_of(row)
        if row in self._cache:
            self._cache.move_to_end(row)
            return self._cache[row]
        with self.store.open(name) as shard:
            at = self._stored_row(row) % self.shard_size
            start, stop = (int(offset) for offset in shard.rows("offsets", at, at + 2))
            width, height = (int(side) for side in shard.rows("image_size", at, at + 1)[0])
            features = LocalFeatures(
                shard.rows("keypoints", start, stop),
                shard.rows("descriptors", start, stop),
                shard.rows("scores", start, stop),
                shard.rows("scales", start, stop),
                (width, height),
            )
        self._keep(row, features)
        return features

    def shard_of(self, row: int) -> str:
        """Return the file name of the shard that holds an image.

        Raises:
            LandmarkRetrievalError: the row is beyond the image table of this store.
        """
        if not 0 <= row < self.images:
            raise LandmarkRetrievalError(
                f"{self.store.root}: has no image row {row}, only {self.images}; run the features pipeline "
                "(train images need local_features.train_images: true)"
            )
        return str(self._manifest["shards"][self._stored_row(row) // self.shard_size])

    def fingerprint_of(self, row: int) -> str:
        """Return what identifies an image's features: its row and the content of the shard that holds it."""
        shard = self.shard_of(row)
        return f"{self._stored_row(row)} {shard}"

    def _stored_row(self, row: int) -> int:
        return row if self.rows is None else int(self.rows[row])

    def _keep(self, row: int, features: LocalFeatures) -> None:
        self._cache[row] = features
        self._held += _bytes_of(features)
        while len(self._cache) > 1 and self._held > self.cache_bytes:
            self._held -= _bytes_of(self._cache.popitem(last=False)[1])


def _bytes_of(features: LocalFeatures) -> int:
    parts = (features.keypoints, features.descriptors, features.scores, features.scales)
    return sum(part.nbytes for part in parts)

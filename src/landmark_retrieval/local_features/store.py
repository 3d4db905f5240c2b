"""Reading stored local features, image by image."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.local_features.base import LocalFeatures
from landmark_retrieval.sharding import ShardStore


class LocalFeatureStore:
    """Local features of an image table, read from shards; the latest shards stay in memory.

    Instances are picklable and take their cache along to nobody.

    Args:
        store: what a plan of `plan_local_extraction` has written.
        cache_bytes: memory for shards.
        rows: image i of this store is image `rows[i]` of the stored table; None takes all as they are.

    Raises:
        LandmarkRetrievalError: the store holds something else.
    """

    def __init__(
        self, store: ShardStore, cache_bytes: int = 1 << 30, rows: NDArray[np.int64] | None = None
    ) -> None:
        self.store = store
        self.cache_bytes = cache_bytes
        self._manifest = store.manifest()
        metadata = self._manifest["metadata"]
        if "extractor" not in metadata:
            raise LandmarkRetrievalError(f"{store.root}: holds no local features; run the features pipeline")
        self.rows = np.arange(int(metadata["images"])) if rows is None else np.asarray(rows, np.int64)
        self.images = len(self.rows)
        self.dimensions = int(metadata["dimensions"])
        self.shard_size = int(metadata["shard_size"])
        self._cache: OrderedDict[str, dict[str, NDArray[Any]]] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": OrderedDict()}

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
        shard = self._shard(self.shard_of(row))
        at = int(self.rows[row]) - int(shard["rows"][0])
        part = slice(int(shard["offsets"][at]), int(shard["offsets"][at + 1]))
        width, height = (int(side) for side in shard["image_size"][at])
        return LocalFeatures(
            shard["keypoints"][part],
            shard["descriptors"][part],
            shard["scores"][part],
            shard["scales"][part],
            (width, height),
        )

    def shard_of(self, row: int) -> str:
        """Return the file name of the shard that holds an image.

        Raises:
            LandmarkRetrievalError: the row is beyond the image table of this store.
        """
        if not 0 <= row < self.images:
            raise LandmarkRetrievalError(
                f"{self.store.root}: has no image row {row}, only {self.images}; run the features pipeline"
            )
        return str(self._manifest["shards"][self.rows[row] // self.shard_size])

    def fingerprint_of(self, row: int) -> str:
        """Return what identifies an image's features: its row and the content of the shard that holds it."""
        shard = self.shard_of(row)
        return f"{self.rows[row]} {shard}"

    def skipped(self) -> pd.DataFrame:
        """Return the images that could not be read: `row`, `reason`."""
        rows, reasons = [], []
        for shard in self.store:
            bad = np.flatnonzero(shard["reasons"] != "")
            rows += shard["rows"][bad].tolist()
            reasons += shard["reasons"][bad].tolist()
        return pd.DataFrame({"row": pd.Series(rows, dtype=np.int64), "reason": pd.Series(reasons, dtype=str)})

    def _shard(self, name: str) -> dict[str, NDArray[Any]]:
        if name in self._cache:
            self._cache.move_to_end(name)
            return self._cache[name]
        shard = self.store.read(name)
        self._cache[name] = shard
        while len(self._cache) > 1 and sum(map(_bytes_of, self._cache.values())) > self.cache_bytes:
            self._cache.popitem(last=False)
        return shard


def _bytes_of(shard: dict[str, NDArray[Any]]) -> int:
    return sum(array.nbytes for array in shard.values())

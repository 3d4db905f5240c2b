"""Kedro dataset of a folder of photos."""

from __future__ import annotations

from typing import Any, ClassVar

from landmark_retrieval.collection import RawCollection, read_collection
from landmark_retrieval.collection.folder import Labels
from landmark_retrieval.io.errors import passed_on
from landmark_retrieval.io.photos import PhotosDataset


class ImageFolderDataset(PhotosDataset):
    """Any folder of photos; read-only.

    Loads what `landmark_retrieval.collection.read_collection` finds; the photos stay on disk.

    Args:
        filepath: the folder, or a table inside its folder.
        allow_outside: accept paths in the table that leave its folder.
        labels: `none` reads neither landmarks nor splits.
        descriptors: what stands in for the photos of a table, which then need not exist.
        metadata: for plugins such as kedro-viz.
    """

    RUNTIME_OPTIONS: ClassVar[tuple[str, ...]] = ("image_root", "labels", "protocol")

    def __init__(
        self,
        *,
        filepath: str,
        allow_outside: bool = False,
        labels: Labels = "auto",
        descriptors: Any = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(filepath=filepath, metadata=metadata)
        self._allow_outside = allow_outside
        self._labels: Labels = labels
        self._photos_needed = not descriptors

    def load(self) -> RawCollection:
        """Return the raw image table, and what else was met.

        Raises:
            ArtifactError: see `landmark_retrieval.collection.read_collection`.
        """
        with passed_on():
            return read_collection(self._filepath, self._allow_outside, self._labels, self._photos_needed)

    def _describe(self) -> dict[str, Any]:
        return {
            "filepath": str(self._filepath),
            "allow_outside": self._allow_outside,
            "labels": self._labels,
        }

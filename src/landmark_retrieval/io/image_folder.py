"""Kedro dataset of a folder of photos."""

from __future__ import annotations

import logging
import os
from typing import Any, ClassVar

from landmark_retrieval.collection import RawCollection, read_collection
from landmark_retrieval.collection.folder import Labels
from landmark_retrieval.configuration import digest
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.images import file_state
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

    @property
    def files_needed(self) -> bool:
        """Whether the photos themselves must be there, besides their table."""
        return self._photos_needed

    def load(self) -> RawCollection:
        """Return the raw image table, and what else was met.

        Raises:
            ArtifactError: see `landmark_retrieval.collection.read_collection`.
        """
        with passed_on():
            return read_collection(self._filepath, self._allow_outside, self._labels, self._photos_needed)

    def _state(self) -> tuple[str, str]:
        logging.disable()  # the node that reads the photos says what there is to say
        try:
            raw = self.load()
        except LandmarkRetrievalError as error:
            return digest(str(error)), ""
        finally:
            logging.disable(logging.NOTSET)
        table = raw.table.reset_index(drop=True)
        paths = table["path"].astype(str).tolist() if "path" in table else []
        sizes = [file_state(path)[0] for path in paths]
        if paths:
            table["path"] = [os.path.relpath(path, self._filepath) for path in paths]
        return digest(table.to_csv(index=False), raw.problems), "" if -1 in sizes else digest(sizes)

    def _describe(self) -> dict[str, Any]:
        return {
            "filepath": str(self._filepath),
            "allow_outside": self._allow_outside,
            "labels": self._labels,
        }

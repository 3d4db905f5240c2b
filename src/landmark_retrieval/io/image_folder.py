"""Kedro dataset of a folder of photos."""

from __future__ import annotations

from typing import Any, ClassVar

import pandas as pd

from landmark_retrieval.collection import read_image_folder
from landmark_retrieval.io.errors import passed_on
from landmark_retrieval.io.photos import PhotosDataset


class ImageFolderDataset(PhotosDataset):
    """Photos with a table `images.csv`, or one sub-folder of photos per landmark; read-only.

    Loads the raw table of `landmark_retrieval.collection.read_image_folder`; the photos stay on disk.

    Args:
        filepath: the folder, or a `.csv` table inside its folder.
        allow_outside: accept paths in the table that leave its folder.
        metadata: for plugins such as kedro-viz.
    """

    RUNTIME_OPTIONS: ClassVar[tuple[str, ...]] = ("image_root",)

    def __init__(
        self, *, filepath: str, allow_outside: bool = False, metadata: dict[str, Any] | None = None
    ) -> None:
        super().__init__(filepath=filepath, metadata=metadata)
        self._allow_outside = allow_outside

    def load(self) -> pd.DataFrame:
        """Return the raw image table.

        Raises:
            ArtifactError: see `landmark_retrieval.collection.read_image_folder`.
        """
        with passed_on():
            return read_image_folder(self._filepath, allow_outside=self._allow_outside)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "allow_outside": self._allow_outside}

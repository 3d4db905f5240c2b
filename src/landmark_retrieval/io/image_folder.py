"""Kedro dataset of a folder of photos."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
from kedro.io import AbstractDataset
from kedro_datasets._typing import TablePreview

from landmark_retrieval.data_sets import read_image_folder
from landmark_retrieval.io.errors import ArtifactError, passed_on


class ImageFolderDataset(AbstractDataset[Any, pd.DataFrame]):
    """Photos with a table `images.csv`, or one sub-folder of photos per landmark; read-only.

    Loads the raw table of `landmark_retrieval.data_sets.read_image_folder`; the photos stay on disk.

    Args:
        filepath: the folder, or a `.csv` table inside its folder.
        allow_outside: accept paths in the table that leave its folder.
        metadata: for plugins such as kedro-viz.
    """

    def __init__(
        self, *, filepath: str, allow_outside: bool = False, metadata: dict[str, Any] | None = None
    ) -> None:
        self._filepath = Path(filepath)
        self._allow_outside = allow_outside
        self.metadata = metadata

    def load(self) -> pd.DataFrame:
        """Return the raw image table.

        Raises:
            ArtifactError: see `landmark_retrieval.data_sets.read_image_folder`.
        """
        with passed_on():
            return read_image_folder(self._filepath, allow_outside=self._allow_outside)

    def save(self, data: Any) -> NoReturn:
        """Refuse: photos are an input.

        Raises:
            ArtifactError: always.
        """
        raise ArtifactError(
            f"{self._filepath}: photos are read-only; save the image table under another name"
        )

    def preview(self, nrows: int = 10) -> TablePreview:
        """Return the first rows for kedro-viz.

        Args:
            nrows: number of rows.
        """
        rows = self.load().head(nrows).astype(object)
        return TablePreview(rows.where(rows.notna(), None).to_dict(orient="split"))

    def _exists(self) -> bool:
        return self._filepath.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "allow_outside": self._allow_outside}

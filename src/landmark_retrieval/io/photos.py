"""What all Kedro datasets of photos have in common: they are read-only and show their first rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, NoReturn

from kedro.io import AbstractDataset

from landmark_retrieval.collection import RawCollection
from landmark_retrieval.io.errors import ArtifactError
from landmark_retrieval.io.previews import TablePreview


class PhotosDataset(AbstractDataset[Any, RawCollection]):
    """Photos on disk; loading gives their raw image table and an account of the files.

    Args:
        filepath: where they are.
        metadata: for plugins such as kedro-viz.
    """

    RUNTIME_OPTIONS: ClassVar[tuple[str, ...]] = ()
    """Options of `kedro run --params` by which the catalog sets such an entry."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

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
        rows = self.load().table.head(nrows).astype(object)
        return TablePreview(rows.where(rows.notna(), None).to_dict(orient="split"))

    def _exists(self) -> bool:
        return self._filepath.exists()

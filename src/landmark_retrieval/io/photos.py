"""What all Kedro datasets of photos have in common: they are read-only and show their first rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, NoReturn

from kedro.io import AbstractDataset

from landmark_retrieval.collection import RawCollection
from landmark_retrieval.configuration import digest
from landmark_retrieval.images import content_digest
from landmark_retrieval.io.errors import ArtifactError
from landmark_retrieval.io.previews import TablePreview

TABLES = (".csv", ".pkl", ".txt")
"""Ends of the names of files that list the photos of a benchmark."""


def same(now: str, before: str) -> bool:
    """Tell whether two digests are of the same content; where photos are away, of the same table."""
    (table, _, sizes), (table_before, _, sizes_before) = now.partition("/"), before.partition("/")
    return table == table_before and (sizes == sizes_before or "" in (sizes, sizes_before))


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

    @property
    def files_needed(self) -> bool:
        """Whether the photos themselves must be there, besides their table."""
        return True

    @property
    def root(self) -> Path:
        """Where the photos are."""
        return self._filepath

    def state(self) -> str | None:
        """Return a digest of what the table of photos says now, and after a slash of the sizes of the files.

        Nothing stands after the slash where photos are not there; None where none of them can be looked at.
        """
        return "/".join(self._state()) if self._filepath.exists() else None

    def _state(self) -> tuple[str, str]:
        """Return the two parts of the state; here those of the files that list the photos of a benchmark."""
        tables = [
            file for depth in ("*", "*/*") for kind in TABLES for file in self._filepath.glob(depth + kind)
        ]
        return digest({str(file.relative_to(self._filepath)): content_digest(file) for file in tables}), ""

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

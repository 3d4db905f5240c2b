"""Kedro dataset of the page of a collection with its pictures."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from landmark_retrieval.io.html import HtmlDataset
from landmark_retrieval.reporting.collection import PICTURES, CollectionPage
from landmark_retrieval.reporting.thumbnails import thumbnail


class CollectionPageDataset(AbstractDataset[CollectionPage, str]):
    """An HTML page with a folder of thumbnails beside it; loading gives the page as text.

    A thumbnail is named after the bytes of its photo, so one that is there is not made again. Those that the
    page no longer shows are removed.

    Args:
        filepath: the page.
        metadata: for plugins such as kedro-viz.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._page = HtmlDataset(filepath=filepath)
        self._pictures = Path(filepath).parent / PICTURES
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> str:
        """Return the page.

        Raises:
            ArtifactError: it is not stored, or not text.
        """
        return self._page.load()

    def save(self, data: CollectionPage) -> None:
        """Make the thumbnails that are not there, then write the page."""
        self._pictures.mkdir(parents=True, exist_ok=True)
        there = {file.name for file in self._pictures.iterdir()}

        def make(name: str) -> None:
            temporary = self._pictures / f".{name}.tmp"
            temporary.write_bytes(thumbnail(data.pictures[name], data.side))
            temporary.replace(self._pictures / name)

        with ThreadPoolExecutor() as threads:
            list(threads.map(make, sorted(data.pictures.keys() - there)))
        self._page.save(data.html)
        for name in there - data.pictures.keys():
            (self._pictures / name).unlink(missing_ok=True)

    def _exists(self) -> bool:
        return self._page.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}

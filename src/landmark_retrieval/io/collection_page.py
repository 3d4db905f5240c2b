"""Kedro dataset of the page of a collection with its pictures."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from landmark_retrieval.io.array_bundle import LEFT
from landmark_retrieval.io.html import HtmlDataset
from landmark_retrieval.reporting.collection import PICTURES, CollectionPage
from landmark_retrieval.reporting.thumbnails import thumbnail
from landmark_retrieval.runtime.files import whole_file


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
        there = {file.name for file in self._pictures.iterdir() if not self._is_being_written(file)}

        def make(name: str) -> None:
            picture = thumbnail(data.pictures[name], data.side)
            with whole_file(self._pictures / name, lasting=False) as temporary:
                temporary.write_bytes(picture)

        with ThreadPoolExecutor() as threads:
            list(threads.map(make, sorted(data.pictures.keys() - there)))
        self._page.save(data.html)
        for name in there - data.pictures.keys():
            (self._pictures / name).unlink(missing_ok=True)

    def _is_being_written(self, file: Path) -> bool:
        """Return whether another run may be writing a picture under this name; such files are its own."""
        try:
            return file.name.startswith(".") and time.time() - file.stat().st_mtime < LEFT
        except FileNotFoundError:
            return True

    def _exists(self) -> bool:
        return self._page.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}

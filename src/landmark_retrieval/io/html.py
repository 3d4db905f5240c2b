"""Kedro dataset of a self-contained HTML page."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from landmark_retrieval.io.errors import ArtifactError, damaged
from landmark_retrieval.io.previews import HTMLPreview
from landmark_retrieval.runtime.files import whole_file


class HtmlDataset(AbstractDataset[str, str]):
    """An HTML page as text in one local file; kedro-viz shows it.

    Args:
        filepath: the file.
        preview_mib: pages larger than this many MiB are not sent to kedro-viz, only their path is.
        metadata: for plugins such as kedro-viz.
    """

    def __init__(
        self, *, filepath: str, preview_mib: float = 8.0, metadata: dict[str, Any] | None = None
    ) -> None:
        self._filepath = Path(filepath)
        self._preview_mib = preview_mib
        self.metadata = metadata

    def load(self) -> str:
        """Return the page.

        Raises:
            ArtifactError: it is not stored, or not text.
        """
        try:
            return self._filepath.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ArtifactError(f"{self._filepath}: not stored yet; run its pipeline first") from None
        except UnicodeDecodeError as error:
            raise damaged(self._filepath, error) from error

    def save(self, data: str) -> None:
        """Write the page in place of the one that is there, all or nothing.

        Raises:
            ArtifactError: the data is not text.
        """
        if not isinstance(data, str):
            raise ArtifactError(f"{self._filepath}: expected HTML text, got {type(data).__name__}")
        with whole_file(self._filepath) as temporary:
            temporary.write_text(data, encoding="utf-8")

    def preview(self) -> HTMLPreview:
        """Return the page for kedro-viz, or a note where it lies when it is large."""
        mib = self._filepath.stat().st_size / 2**20
        if mib > self._preview_mib:
            return HTMLPreview(f"<p>{mib:.1f} MiB, open {escape(str(self._filepath))} in a browser.</p>")
        return HTMLPreview(self.load())

    def _exists(self) -> bool:
        return self._filepath.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}

"""Kedro dataset of the store of photos and pairs."""

from __future__ import annotations

from typing import Any

from kedro.io import AbstractDataset

from landmark_retrieval.io.errors import ArtifactError
from landmark_retrieval.runtime.store import Store


class StoreDataset(AbstractDataset[Any, Store]):
    """A handle to the store, for nodes that compute what is not in it; each load gives a new one.

    Args:
        filepath: folder path or fsspec URL (`s3://bucket/folder`).
        metadata: for plugins such as kedro-viz.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = str(filepath)
        self.metadata = metadata

    def load(self) -> Store:
        """Return the handle."""
        return Store(self._filepath)

    def save(self, data: Any) -> None:
        """Refuse: nodes put results into the store themselves.

        Raises:
            ArtifactError: always.
        """
        raise ArtifactError(f"{self._filepath}: the store is an input; nodes put results into it themselves")

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}

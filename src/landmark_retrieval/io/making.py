"""Kedro datasets of what is known about a run and its artifacts, to be read only."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

from kedro.io import AbstractDataset

from landmark_retrieval.io.errors import ArtifactError
from landmark_retrieval.runtime.run_facts import run_facts


class ReadOnlyDataset(AbstractDataset[Any, Any]):
    """Something that nodes read and never write."""

    metadata: dict[str, Any] | None = None

    def save(self, data: Any) -> NoReturn:
        """Refuse.

        Raises:
            ArtifactError: always.
        """
        raise ArtifactError(f"{type(self).__name__}: can only be read")

    def _exists(self) -> bool:
        return True


class MakingDataset(ReadOnlyDataset):
    """What an artifact was made with, a `chain.Making`; the catalog reads it from the records.

    Args:
        artifact: its name in the catalog.
        metadata: for plugins such as kedro-viz.
    """

    def __init__(self, *, artifact: str, metadata: dict[str, Any] | None = None) -> None:
        self.artifact = artifact
        self.metadata = metadata

    def load(self) -> NoReturn:
        """Refuse: only a `ChainCatalog` knows the records.

        Raises:
            ArtifactError: always.
        """
        raise ArtifactError(f"how {self.artifact} was made: load it through the catalog")

    def _describe(self) -> dict[str, Any]:
        return {"artifact": self.artifact}


class RunFactsDataset(ReadOnlyDataset):
    """Commit, versions and machine of this process, as of `runtime.run_facts`.

    Args:
        project: root of the project.
        metadata: for plugins such as kedro-viz.
    """

    def __init__(self, *, project: str = ".", metadata: dict[str, Any] | None = None) -> None:
        self._project = project
        self.metadata = metadata

    def load(self) -> dict[str, str]:
        """Return names and values."""
        return run_facts(Path(self._project))

    def _describe(self) -> dict[str, Any]:
        return {"project": self._project}

"""Kedro dataset of long work in resumable shards."""

from __future__ import annotations

import json
from typing import Any

from kedro.io import AbstractDataset

from landmark_retrieval.io.errors import ArtifactError, damaged, passed_on
from landmark_retrieval.io.previews import TablePreview
from landmark_retrieval.runtime.sharding import MANIFEST, ShardPlan, ShardStore


class ShardedDataset(AbstractDataset[ShardPlan, ShardStore]):
    """A folder of shards: saving a plan computes what is missing in it, loading gives the store.

    Args:
        filepath: folder path or fsspec URL (`s3://bucket/folder`).
        metadata: for plugins such as kedro-viz.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = str(filepath)
        self.metadata = metadata

    def load(self) -> ShardStore:
        """Return the store once it is complete.

        Raises:
            ArtifactError: there is no complete artifact, its manifest is damaged, or shards are missing.
        """
        store = ShardStore(self._filepath)
        with passed_on():
            try:
                wanted = store.manifest()["shards"]
                present = store._names()
            except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
                raise damaged(f"{self._filepath}/{MANIFEST}", error) from error
        missing = [name for name in wanted if name not in present]
        if missing:
            raise ArtifactError(
                f"{self._filepath}: {len(missing)} of {len(wanted)} shards are missing, the first is "
                f"{missing[0]}; run its pipeline again (only these are computed)"
            )
        return store

    def save(self, data: ShardPlan) -> None:
        """Compute the shards of the plan that are not stored yet.

        Raises:
            ArtifactError: the data is no plan, or the work failed with a message for the user.
        """
        if not isinstance(data, ShardPlan):
            raise ArtifactError(f"{self._filepath}: expected a ShardPlan, got {type(data).__name__}")
        with passed_on():
            ShardStore(self._filepath).run(data)

    def preview(self) -> TablePreview:
        """Return the facts of the manifest for kedro-viz."""
        manifest = self.load().manifest()
        facts = {"shards": len(manifest["shards"]), "seconds": round(manifest["seconds"], 1)}
        facts |= {str(name): str(value) for name, value in manifest["metadata"].items()}
        return TablePreview(
            {
                "index": list(range(len(facts))),
                "columns": ["fact", "value"],
                "data": [list(fact) for fact in facts.items()],
            }
        )

    def _exists(self) -> bool:
        return ShardStore(self._filepath).exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}

"""Kedro dataset of a JSON file that need not be there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from landmark_retrieval.io.errors import damaged
from landmark_retrieval.runtime.files import whole_file


class OptionalJSONDataset(AbstractDataset[dict[str, Any], dict[str, Any]]):
    """A JSON object; without its file an empty one, so that a pipeline may depend on what was never made.

    Args:
        filepath: filepath of the JSON file; infinite numbers are kept.
        metadata: for plugins such as kedro-viz.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> dict[str, Any]:
        """Return the object, empty without the file.

        Raises:
            ArtifactError: the file does not hold a JSON object.
        """
        if not self._filepath.exists():
            return {}
        try:
            loaded = json.loads(self._filepath.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise damaged(str(self._filepath), error) from error
        if not isinstance(loaded, dict):
            raise damaged(str(self._filepath), TypeError(f"a {type(loaded).__name__}, not an object"))
        return loaded

    def save(self, data: dict[str, Any]) -> None:
        """Write the object."""
        with whole_file(self._filepath) as temporary:
            temporary.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}

"""Kedro dataset of a parameter model, stored as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset
from kedro.utils import load_obj

from landmark_retrieval.configuration import Configuration
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.io.errors import ArtifactError, damaged
from landmark_retrieval.runtime.files import whole_file


class ConfigurationDataset(AbstractDataset[Configuration, Configuration]):
    """A model derived from `Configuration`; it is checked whenever it is loaded.

    Args:
        filepath: of the JSON file.
        model: dotted path of the class, such as `landmark_retrieval.graph.TraversalConfig`.
        metadata: for plugins such as kedro-viz.
    """

    def __init__(self, *, filepath: str, model: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = Path(filepath)
        self._model = model
        self.metadata = metadata

    def load(self) -> Configuration:
        """Return the model.

        Raises:
            ArtifactError: nothing is stored, or it is not this model.
        """
        model: type[Configuration] = load_obj(self._model)
        try:
            return model.model_validate(json.loads(self._filepath.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise ArtifactError(f"{self._filepath}: not stored yet; run its pipeline first") from None
        except (ValueError, LandmarkRetrievalError) as error:
            raise damaged(self._filepath, error) from error

    def save(self, data: Configuration) -> None:
        """Write the model."""
        with whole_file(self._filepath) as temporary:
            temporary.write_text(json.dumps(data.model_dump(mode="json"), indent=2) + "\n", encoding="utf-8")

    def _exists(self) -> bool:
        return self._filepath.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "model": self._model}

"""Kedro datasets of what training gives: saving a plan trains."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import mlflow
from kedro.io import AbstractDataset
from safetensors import safe_open

from landmark_retrieval.descriptors.trained import TrainedDescriptor, load_trained, save_trained
from landmark_retrieval.io.errors import ArtifactError, passed_on
from landmark_retrieval.local_features.attention import AttentionHead, load_attention, save_attention
from landmark_retrieval.runtime.files import whole_file
from landmark_retrieval.training import AttentionPlan, TrainingPlan


class TrainedDescriptorDataset(AbstractDataset[TrainingPlan, TrainedDescriptor]):
    """A safetensors file: saving a plan trains, from the checkpoint beside it on; loading gives the weights.

    Metrics go to the active MLflow run as they happen, as `training.<name>.loss` and so on over epochs.

    Args:
        filepath: filepath of the file; checkpoints lie in the folder `<filepath without suffix>_checkpoint`.
        name: name of the descriptor, for metrics.
        metadata: for plugins such as kedro-viz.
    """

    def __init__(self, *, filepath: str, name: str, metadata: dict[str, Any] | None = None) -> None:
        self._file = Path(filepath)
        self._name = name
        self.metadata = metadata

    def save(self, data: TrainingPlan) -> None:
        """Train, and store the best weights.

        Raises:
            ArtifactError: the data is no plan, or training failed with a message for the user.
        """
        if not isinstance(data, TrainingPlan):
            raise ArtifactError(f"{self._file}: expected a TrainingPlan, got {type(data).__name__}")
        log = partial(log_metrics, self._name)
        with passed_on():
            trained = data.run(self._file.with_name(self._file.stem + "_checkpoint"), log)
            save_trained(trained, self._file)
        if data.config.register_as is not None:
            self._register(data.config.register_as)

    def load(self) -> TrainedDescriptor:
        """Return the stored weights.

        Raises:
            ArtifactError: there are none, or the file is damaged.
        """
        with passed_on():
            return load_trained(self._file, backbone_of(self._file))

    def _register(self, model: str) -> None:
        run = mlflow.active_run()
        if run is None:
            return
        mlflow.log_artifact(str(self._file), f"trained/{self._name}")
        client = mlflow.MlflowClient()
        if not client.search_registered_models(f"name='{model}'"):
            client.create_registered_model(model)
        source = f"{run.info.artifact_uri}/trained/{self._name}"
        client.create_model_version(model, source, run.info.run_id, tags={"descriptor": self._name})

    def _exists(self) -> bool:
        return self._file.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._file), "name": self._name}


class AttentionDataset(AbstractDataset[AttentionPlan, AttentionHead]):
    """The attention head of DELF: saving a plan trains, from the checkpoint beside it on.

    Args:
        filepath: of the state dict; checkpoints lie in the folder `<filepath without suffix>_checkpoint`.
        metadata: for plugins such as kedro-viz.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._file = Path(filepath)
        self.metadata = metadata

    def save(self, data: AttentionPlan) -> None:
        """Train, and store the head.

        Raises:
            ArtifactError: the data is no plan, or training failed with a message for the user.
        """
        if not isinstance(data, AttentionPlan):
            raise ArtifactError(f"{self._file}: expected an AttentionPlan, got {type(data).__name__}")
        with passed_on():
            folder = self._file.with_name(self._file.stem + "_checkpoint")
            head = data.run(folder, partial(log_metrics, "attention"))
            with whole_file(self._file) as temporary:
                save_attention(head, temporary)

    def load(self) -> AttentionHead:
        """Return the stored head.

        Raises:
            ArtifactError: there is none, or the file is damaged.
        """
        with passed_on():
            return load_attention(self._file)

    def _exists(self) -> bool:
        return self._file.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._file)}


def log_metrics(name: str, metrics: Mapping[str, float], epoch: int) -> None:
    """Log metrics of an epoch to the active MLflow run, if there is one, as `training.<name>.<metric>`."""
    if mlflow.active_run():
        values = {f"training.{name}.{key}": value for key, value in metrics.items()}
        mlflow.log_metrics(values, step=epoch)


def backbone_of(file: Path) -> str:
    """Return the name of the network that a trained descriptor is of, empty where it cannot be told."""
    try:
        with safe_open(file, framework="pt") as stored:
            return str((stored.metadata() or {}).get("backbone", ""))
    except Exception:  # load_trained says what is wrong
        return ""

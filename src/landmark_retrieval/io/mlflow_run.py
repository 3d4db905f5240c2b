"""Kedro dataset that makes one variant of the ablation one MLflow run."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import mlflow
import pandas as pd
from kedro.io import AbstractDataset
from mlflow.data.pandas_dataset import from_pandas
from mlflow.entities import LoggedModelInput, Run
from mlflow.utils.validation import (
    MAX_ENTITY_KEY_LENGTH,
    MAX_METRICS_PER_BATCH,
    MAX_PARAM_VAL_LENGTH,
    MAX_PARAMS_TAGS_PER_BATCH,
    MAX_TAG_VAL_LENGTH,
)
from pydantic import BaseModel

from landmark_retrieval.configuration import digest
from landmark_retrieval.io.errors import ArtifactError
from landmark_retrieval.io.previews import JSONPreview

if TYPE_CHECKING:
    from landmark_retrieval.reporting.variant_run import VariantRun

logger = logging.getLogger(__name__)

VARIANT_TAG = "variant"
"""Tag of every such run; loading finds runs by it."""

MODEL_TAG = "digest"
"""Tag of every model: a digest of what it depends on."""


class MlflowVariantRunDataset(AbstractDataset["VariantRun", dict[str, float]]):
    """One MLflow run a variant: saving logs it, loading gives the metrics of the latest one.

    Within a running `kedro run` (or any active MLflow run) the variant's run is nested in the active one and
    in its experiment; without, it is a run of its own. It carries the variant's name.

    Args:
        variant: name of the variant that is loaded; None loads what was saved last through this entry.
        experiment: MLflow experiment of runs without an active run and of the search when loading; None for
            the current one. It is made when it does not exist.
        metadata: for plugins such as kedro-viz.
    """

    _SINGLE_PROCESS = True

    def __init__(
        self,
        *,
        variant: str | None = None,
        experiment: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._variant = variant
        self._experiment = experiment
        self._saved_variant: str | None = None
        self.metadata = metadata

    def save(self, data: VariantRun | Sequence[VariantRun]) -> None:
        """Log a variant: parameters flattened with dots, finite metrics, tags, tables, figures and so on.

        Args:
            data: `name`, `parameters` (nested), `metrics`, `tags`, and by file name `tables` (DataFrames,
                stored as CSV), `figures` (matplotlib or plotly) and `texts`; several become a run each.

        Raises:
            ArtifactError: the entry is for another variant.
        """
        if isinstance(data, Sequence):
            for run in data:
                self.save(run)
            return
        if self._variant is not None and data.name != self._variant:
            raise ArtifactError(f"this catalog entry logs the variant '{self._variant}', got '{data.name}'")
        active = mlflow.active_run()
        experiment_id = active.info.experiment_id if active else self._experiment_id(create=True)
        with mlflow.start_run(run_name=data.name, nested=active is not None, experiment_id=experiment_id):
            parameters = {
                _key(name): _cut(value, MAX_PARAM_VAL_LENGTH) for name, value in flatten(data.parameters)
            }
            for chunk in _chunks(parameters.items(), MAX_PARAMS_TAGS_PER_BATCH):
                mlflow.log_params(chunk)
            for chunk in _chunks(_finite(data.metrics), MAX_METRICS_PER_BATCH):
                mlflow.log_metrics(chunk)
            tags = {**data.tags, VARIANT_TAG: data.name}
            mlflow.set_tags(
                {_key(name): _cut(str(value), MAX_TAG_VAL_LENGTH) for name, value in tags.items()}
            )
            for name, images in data.inputs.items():
                _log_data_set(name, images)
            _log_models(data.models, experiment_id)
            for file_name, table in data.tables.items():
                mlflow.log_text(table.to_csv(index=False), file_name)
            for file_name, figure in data.figures.items():
                mlflow.log_figure(figure, file_name)
            for file_name, text in data.texts.items():
                mlflow.log_text(text, file_name)
        self._saved_variant = data.name

    def load(self) -> dict[str, float]:
        """Return the metrics of the variant's latest finished run.

        Raises:
            ArtifactError: there is none.
        """
        run = self._latest()
        if run is None:
            raise ArtifactError(
                f"no finished MLflow run of variant '{self._variant or self._saved_variant}' at "
                f"{mlflow.get_tracking_uri()}; run the evaluation pipeline first"
                if self._variant or self._saved_variant
                else "which variant's MLflow run? name it with `variant:` at the catalog entry"
            )
        return dict(run.data.metrics)

    def preview(self) -> JSONPreview:
        """Return the metrics of the latest run for kedro-viz."""
        return JSONPreview(json.dumps(self.load()))

    def _latest(self) -> Run | None:
        variant = self._variant or self._saved_variant
        if variant is None:
            return None
        active = mlflow.active_run()
        experiment_id = active.info.experiment_id if active else self._experiment_id(create=False)
        if experiment_id is None and self._experiment is not None:
            return None
        runs = mlflow.search_runs(
            experiment_ids=None if experiment_id is None else [experiment_id],
            filter_string=f"tags.{VARIANT_TAG} = '{variant}' and attributes.status = 'FINISHED'",
            order_by=["attributes.start_time DESC"],
            max_results=1,
            output_format="list",
        )
        return runs[0] if runs else None

    def _experiment_id(self, create: bool) -> str | None:
        """Return the id of the configured experiment; None for the current one, or when it does not exist."""
        if self._experiment is None:
            return None
        found = mlflow.get_experiment_by_name(self._experiment)
        if found is not None:
            return str(found.experiment_id)
        return str(mlflow.create_experiment(self._experiment)) if create else None

    def _exists(self) -> bool:
        return self._latest() is not None

    def _describe(self) -> dict[str, Any]:
        return {"variant": self._variant, "experiment": self._experiment}


def table_digest(images: pd.DataFrame) -> str:
    """Return a digest of which images are in which split and show which landmark, wherever they lie on disk.

    MLflow's own digest reads the first 10,000 rows and all columns, paths among them.

    Args:
        images: image table; columns that are not there are left out.
    """
    columns = [name for name in ("image_id", "split", "landmark_id", "usage", "relevant") if name in images]
    rows = pd.util.hash_pandas_object(images[columns].astype(str), index=False).to_numpy()
    return digest(columns, hashlib.sha256(rows.tobytes()).hexdigest())  # millions of rows, four times a run


def _log_data_set(name: str, images: pd.DataFrame) -> None:
    """Log an image table as the data set of the active run."""
    with warnings.catch_warnings():
        # Advice on models that are served; here the columns only describe the table.
        warnings.filterwarnings("ignore", message=".*Inferred schema contains integer column.*")
        data_set = from_pandas(images, name=name, digest=table_digest(images))
        mlflow.log_input(data_set, context="evaluation")


def _log_models(models: Mapping[str, Mapping[str, Any]], experiment_id: str | None) -> None:
    """Log models as inputs of the active run; one model is one entry in MLflow, however many runs use it."""
    run = mlflow.active_run()
    assert run is not None
    experiment = experiment_id or run.info.experiment_id
    used = []
    for name, options in models.items():
        mark = digest(name, options)
        found = mlflow.search_logged_models(
            experiment_ids=[experiment],
            filter_string=f"tags.{MODEL_TAG} = '{mark}'",
            max_results=1,
            output_format="list",
        )
        model = (
            found[0]
            if found
            else mlflow.create_external_model(
                name=name,
                params={_key(key): value for key, value in flatten(options)},
                tags={MODEL_TAG: mark},
                model_type="descriptor",
                experiment_id=experiment,
            )
        )
        used.append(LoggedModelInput(model.model_id))
    if used:
        # `mlflow.log_inputs` takes models on one vendor's servers only; the client stores them everywhere.
        mlflow.MlflowClient().log_inputs(run.info.run_id, models=used)


def flatten(parameters: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested parameters as (dotted name, text); lists are written as JSON.

    Args:
        parameters: mappings and pydantic models, nested at will, around plain values.
        prefix: dotted name of `parameters` itself.
    """
    if isinstance(parameters, BaseModel):
        parameters = parameters.model_dump(mode="json")
    if isinstance(parameters, Mapping) and (parameters or not prefix):
        for name, value in parameters.items():
            yield from flatten(value, f"{prefix}.{name}" if prefix else str(name))
    elif isinstance(parameters, (list, tuple, Mapping)):
        yield prefix, json.dumps(parameters, default=str)
    else:
        yield prefix, str(parameters)


def _finite(metrics: Mapping[str, float | None]) -> Iterator[tuple[str, float]]:
    for name, value in metrics.items():
        if value is not None and math.isfinite(value):
            yield _key(name), float(value)
        else:
            logger.debug("metric %s is %s and is not logged", name, value)


def _key(name: str) -> str:
    """Return a name MLflow accepts: letters, digits and `_-./ `."""
    return re.sub(r"[^\w\-./ ]", "_", name)[:MAX_ENTITY_KEY_LENGTH]


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."


def _chunks(items: Iterable[tuple[str, Any]], size: int) -> Iterator[dict[str, Any]]:
    iterator = iter(items)
    while chunk := dict(islice(iterator, size)):
        yield chunk

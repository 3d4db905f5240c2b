"""Hooks around every run: missing artifacts named, parameters logged to MLflow."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any, NoReturn

import mlflow
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import CatalogProtocol, DatasetError
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from mlflow.entities import RunStatus
from pydantic import BaseModel

from landmark_retrieval.collection import DataSetConfig
from landmark_retrieval.config_loader import PLAIN_GROUPS, RUNTIME_OPTIONS, tracking_uri
from landmark_retrieval.configuration import unknown_option
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.io import ImageFolderDataset
from landmark_retrieval.io.mlflow_parent import end_killed_runs, identifying_tags, run_name
from landmark_retrieval.io.tracking import (
    TrackingConfig,
    be_brief,
    go_on_locally,
    has_stopped,
    usable_store,
)
from landmark_retrieval.pipeline_registry import STAGES, register_pipelines
from landmark_retrieval.retrieval.variants import choose_variants
from landmark_retrieval.runtime.run_facts import run_facts

with warnings.catch_warnings(record=True):
    # MLflow warns of a class of kedro-mlflow, whatever the filters say.
    from kedro_mlflow.framework.hooks.mlflow_hook import MlflowHook

logger = logging.getLogger(__name__)

PHOTOS = "photos"
"""Catalog entry of the photos, the only input that no stage makes."""


class ArtifactHooks:
    """Before anything runs: refuse unknown parameters and name what a single pipeline misses."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Make the pipelines of the variants that the parameters choose."""
        chosen = context.params.get("variants")
        pipelines.update(register_pipelines(choose_variants(chosen)))

    @hook_impl
    def after_catalog_created(self, catalog: CatalogProtocol, parameters: dict[str, Any]) -> None:
        """Refuse parameters that nothing reads (misspelt, or of another environment)."""
        known = {*RUNTIME_OPTIONS, *PLAIN_GROUPS}
        for pipeline in pipelines.values():
            known |= {
                name.removeprefix("params:").split(".")[0]
                for name in pipeline.inputs()
                if name.startswith("params:")
            }
        for name in parameters["parameters"]:
            if name not in known:
                raise LandmarkRetrievalError(unknown_option(name, sorted(known), kind="parameter"))
        read = getattr(catalog.get(PHOTOS), "RUNTIME_OPTIONS", RUNTIME_OPTIONS)
        for name in RUNTIME_OPTIONS:
            if name in parameters["parameters"] and name not in (*read, "seed"):
                raise LandmarkRetrievalError(
                    f"'{name}' has no meaning in this environment: image_root and labels belong to --env "
                    "folder, data_root to gldv2, roxford5k and rparis6k, distractors to the last two"
                )

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Stop when an artifact of an earlier stage is not stored, and say which command makes it.

        First of all hooks, so that such a run is neither timed nor tracked.
        """
        for name in _missing_inputs(pipeline, catalog):
            if _stage_of(name) is None:
                _refuse_input(name, catalog)
            stages = _missing_stages(pipeline, catalog)
            raise LandmarkRetrievalError(
                f"the artifact '{name}' is missing: make it with `kedro run --pipelines {','.join(stages)}` "
                "(with the same --env and --params)"
            )


def _missing_inputs(pipeline: Pipeline, catalog: CatalogProtocol) -> list[str]:
    """Return the artifacts that a pipeline reads and that are not stored, by name."""
    return [
        name
        for name in sorted(pipeline.inputs())
        if not name.startswith("params:") and name != "parameters" and not catalog.exists(name)
    ]


def _stage_of(name: str) -> str | None:
    """Return the stage that makes an artifact, None for what comes from outside."""
    return next((stage for stage in STAGES if name in pipelines[stage].all_outputs()), None)


def _missing_stages(pipeline: Pipeline, catalog: CatalogProtocol) -> list[str]:
    """Return, in their order, the stages that make what a pipeline misses, and what these miss themselves."""
    needed: set[str] = set()
    waiting = [pipeline]
    while waiting:
        makers = {_stage_of(name) for name in _missing_inputs(waiting.pop(), catalog)}
        added = {stage for stage in makers if stage is not None} - needed
        needed |= added
        waiting += [pipelines[stage] for stage in added]
    return [stage for stage in STAGES if stage in needed]


def _refuse_input(name: str, catalog: CatalogProtocol) -> NoReturn:
    """Say what is wrong with an input that no stage makes, in the words of its dataset."""
    try:
        catalog.load(name)
    except DatasetError as error:
        reason = str(error)
    else:
        reason = f"'{name}' is not there"
    if name == PHOTOS:
        option = "image_root" if isinstance(catalog.get(PHOTOS), ImageFolderDataset) else "data_root"
        reason += f"; give the folder of your photos with `--params {option}=DIR`"
    raise LandmarkRetrievalError(reason)


class ExperimentHooks(MlflowHook):
    """kedro-mlflow's hook, with runs that name their data set and parameter models logged flat.

    A server that does not answer at the start stops the run, or is replaced by the local store; one that
    stops to answer later is replaced by it.
    """

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Make sure that MLflow answers, and connect to it."""
        uri = tracking_uri(context.config_loader)
        if uri is not None and mlflow.active_run() is None:
            config = TrackingConfig.model_validate(context.params.get("tracking", {}))
            found = {**context.config_loader["mlflow"]}
            found["server"] = {**found["server"], "mlflow_tracking_uri": usable_store(uri, config)}
            context.config_loader["mlflow"] = found
        try:
            super().after_context_created(context=context)
        except mlflow.MlflowException as error:
            raise LandmarkRetrievalError(f"MLflow cannot be used at {uri}: {error}") from error

    def _go_on_tracking(self) -> None:
        """Replace a server that has stopped to answer."""
        if has_stopped():
            self.run_id = go_on_locally(self.mlflow_config.tracking.experiment.name, self._logged)

    @hook_impl
    def before_dataset_saved(self) -> None:
        """Look whether MLflow answers, as what is saved may go there."""
        self._go_on_tracking()

    @hook_impl
    def after_node_run(self) -> None:
        """Look whether MLflow answers, as the end of the run may come next."""
        self._go_on_tracking()

    @hook_impl
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol
    ) -> None:
        """Open the run of this `kedro run`, named after its data set and what was overridden.

        A run that the caller has opened keeps its name.
        """
        self._logged: dict[str, str] = {}
        be_brief()
        super().before_pipeline_run(run_params=run_params, pipeline=pipeline, catalog=catalog)
        run = mlflow.active_run()
        data_set = DataSetConfig.model_validate(catalog.load("params:data_set")).name
        if run is None or not data_set or self._already_active_mlflow:
            return
        commit = run_facts(Path(run_params["project_path"]))["commit"]
        mlflow.set_tags({"data_set": data_set, **identifying_tags(commit)})
        if self.mlflow_config.tracking.run.name is None:
            name = run_name(
                data_set, run_params.get("pipeline_names") or (), run_params["runtime_params"] or {}
            )
            mlflow.MlflowClient().update_run(run.info.run_id, name=name)
        for killed in end_killed_runs(run.info.experiment_id):
            logger.warning("MLflow run '%s' was killed; it is marked so", killed)

    @hook_impl
    def after_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol
    ) -> None:
        """Give the run the main metric of each variant that it measured, and end it."""
        if mlflow.active_run() is not None and not self._already_active_mlflow:
            for name in sorted(name for name in pipeline.all_outputs() if name.endswith(".metrics")):
                score = catalog.load(name).get("mAP_at_100")
                if score is not None:
                    mlflow.log_metric(f"{name.removesuffix('.metrics')}.mAP_at_100", score)
        super().after_pipeline_run(run_params=run_params, pipeline=pipeline, catalog=catalog)

    @hook_impl
    def before_node_run(
        self, node: Node, catalog: CatalogProtocol, inputs: dict[str, Any], is_async: bool
    ) -> None:
        """Log the parameters of a node to the run of this `kedro run` (`verification.min_inliers`)."""
        self._go_on_tracking()
        plain = {
            name: value.model_dump(mode="json") if isinstance(value, BaseModel) else value
            for name, value in inputs.items()
            if name != "parameters"
        }
        super().before_node_run(node=node, catalog=catalog, inputs=plain, is_async=is_async)

    def _log_param(self, name: str, value: Any) -> None:
        """Log a parameter once: dozens of nodes share most of them, and each takes a transaction."""
        if self._logged.get(name) != str(value):
            super()._log_param(name, value)
            self._logged[name] = str(value)

    @hook_impl
    def on_pipeline_error(
        self, error: Exception, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol
    ) -> None:
        """Mark the run, and a variant's run within it, as failed.

        kedro-mlflow's own version fails itself in a run that it has not reopened (2.0.3).
        """
        while mlflow.active_run():
            try:
                mlflow.end_run(RunStatus.to_string(RunStatus.FAILED))
            except mlflow.MlflowException as refusal:
                logger.warning("the MLflow run could not be marked as failed: %s", refusal)

"""Hooks that count what a run took out of the store and what it computed, and let runs take turns."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import mlflow
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol

from landmark_retrieval.collection import DataSetConfig
from landmark_retrieval.runtime.earlier_shards import earlier_shards
from landmark_retrieval.runtime.store import Store, Work
from landmark_retrieval.runtime.store_files import Folder
from landmark_retrieval.runtime.turns import in_turn

logger = logging.getLogger(__name__)

TURNS = ".runs"
"""Folder of data in which it lies who is at work."""


def stores_of(inputs: dict[str, Any]) -> list[Store]:
    """Return the handles to the store among the inputs of a node."""
    return [value for value in inputs.values() if isinstance(value, Store)]


class TurnHooks:
    """Let runs over one data set take turns: they write the same artifacts, and read what they have written.

    The second finds in the store what the first has computed.
    """

    def __init__(self) -> None:
        self._turn = ExitStack()

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], catalog: CatalogProtocol[Any, Any]) -> None:
        """Wait for the turn of this run; it comes before MLflow's run is opened."""
        name = DataSetConfig.model_validate(catalog.load("params:data_set")).name or "none"
        folder = Folder(str(Path(run_params["project_path"]) / "data" / TURNS / name))
        self._turn.close()
        self._turn.enter_context(in_turn(folder, f"another run is at work on '{name}'"))

    @hook_impl(trylast=True)
    def after_pipeline_run(self) -> None:
        """Let the next one begin."""
        self._turn.close()

    @hook_impl(trylast=True)
    def on_pipeline_error(self) -> None:
        """Let the next one begin."""
        self._turn.close()


class StoreHooks:
    """Count what a run took out of the store and what it computed: in the log and in its MLflow run."""

    COUNTERS: ClassVar[Mapping[str, str]] = {"photo": "photos_described", "pair": "pairs_verified"}
    """Metric of each unit of work that costs a network or RANSAC."""

    def __init__(self) -> None:
        self._work: list[Work] = []

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any]) -> None:
        """Start to count; name what earlier versions have left."""
        self._work = []
        earlier = earlier_shards(Path(run_params["project_path"]) / "data")
        if earlier:
            logger.warning(
                "%d folders hold shards of an earlier version, of no use (%.0f MiB, the first is %s); "
                "`kedro store prune` deletes them",
                len(earlier),
                sum(earlier.values()) / 2**20,
                next(iter(earlier)),
            )

    @hook_impl
    def after_node_run(self, inputs: dict[str, Any]) -> None:
        """Add what a node did."""
        for store in stores_of(inputs):
            self._work += store.work

    @hook_impl(tryfirst=True)
    def after_pipeline_run(self) -> None:
        """Say what was done, while the MLflow run is still open."""
        if not self._work:
            return
        if mlflow.active_run() is not None:
            counts = {metric: self._sum(unit, "computed") for unit, metric in self.COUNTERS.items()}
            mlflow.log_metrics(counts)
        if not any(work.computed for work in self._work if work.unit != "file"):
            logger.info(
                "nothing to do: all descriptions of photos (%d) and pairs (%d) were in the store",
                self._sum("photo", "wanted"),
                self._sum("pair", "wanted"),
            )
            return
        for work in self._work:
            if work.computed:
                logger.info("%s: %d of %d were computed", work.what, work.computed, work.wanted)

    def _sum(self, unit: str, count: str) -> float:
        return float(sum(getattr(work, count) for work in self._work if work.unit == unit))

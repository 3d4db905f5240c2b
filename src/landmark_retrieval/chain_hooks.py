"""Hooks that keep a record beside every artifact, and stop a run whose artifacts do not belong together."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node

from landmark_retrieval.catalog import ChainCatalog
from landmark_retrieval.io.chain import PARAMETERS, Chain, plain
from landmark_retrieval.io.photos import PhotosDataset
from landmark_retrieval.runtime.parameters import flat
from landmark_retrieval.runtime.sharding import ShardPlan
from landmark_retrieval.store_hooks import stores_of

logger = logging.getLogger(__name__)


class ChainHooks:
    """Look at all artifacts that a run reads before it starts, and record what becomes of them.

    The seconds of a record are those of the node, with what it found computed already: sharded artifacts
    count the computing time of all their shards, results in the store what they took when they were made.
    """

    def __init__(self) -> None:
        self._chain: Chain | None = None
        self._catalog: DataCatalog | None = None
        self._started: dict[str, float] = {}
        self._stored: dict[str, float] = {}

    @hook_impl(tryfirst=True)
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog
    ) -> None:
        """Refuse artifacts that are damaged, or do not belong to what stands beside them, all at once.

        First of the hooks but for those that name what is missing, so that such a run is not tracked.
        """
        self._catalog, self._chain = catalog, getattr(catalog, "chain", None)
        if not isinstance(catalog, ChainCatalog):
            return
        chain = catalog.chain
        chain.asked = tuple(run_params.get("pipeline_names") or ())
        chain.pending = set(pipeline.all_outputs())
        catalog.only_fit_exist = bool(run_params.get("only_missing_outputs"))
        read = sorted(name for name in pipeline.inputs() if not name.startswith(PARAMETERS))
        chain.set_aside(read)
        chain.check(read)
        warn_of_vanished_photos(catalog)
        damaged = [why for name in sorted(chain.pending) if (why := chain.damage(name))]
        if damaged:
            logger.warning("damaged, and made again by this run: %s", "; ".join(damaged))
        idle = list(overridden_in_vain(pipeline, catalog, run_params.get("runtime_params") or {}, read))
        if idle:
            logger.warning("without effect in this run: %s", "; ".join(idle))
        known = sum(chain.record(name) is not None for name in read)
        logger.info(
            "%d stored artifacts that this run reads are up to date; it makes %d (`kedro status` lists all)",
            known,
            len(chain.pending),
        )

    @hook_impl
    def before_node_run(self, node: Node, inputs: dict[str, Any]) -> None:
        """Note what a node works with."""
        self._started[node.name] = time.perf_counter()
        if self._chain is not None:
            self._chain.begin(node, inputs, set(pipelines))

    @hook_impl
    def after_node_run(self, node: Node, inputs: dict[str, Any]) -> None:
        """Note what the results of a node took, whenever they were computed."""
        for store in stores_of(inputs):
            self._stored[node.name] = sum(work.seconds for work in store.work)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any, node: Node) -> None:
        """Store the record of an artifact (shards are computed while they are stored)."""
        seconds = time.perf_counter() - self._started[node.name]
        if isinstance(data, ShardPlan) and self._catalog is not None:
            seconds = max(seconds, self._catalog[dataset_name].load().seconds())
        if self._chain is not None:
            self._chain.made(dataset_name, node.name, max(seconds, self._stored.get(node.name, 0.0)))

    @hook_impl(trylast=True)
    def after_pipeline_run(self) -> None:
        """Refuse to end well where something that was read was made into something else afterwards."""
        if self._chain is None:
            return
        self._chain.pending = set()
        self._chain.check(self._chain.used())


def warn_of_vanished_photos(catalog: ChainCatalog) -> None:
    """Say how many photos of the last run are not there now, where this run lists the photos anew."""
    photos = catalog.get("photos") if "photos" in catalog else None
    place = catalog.chain.place("image_table") if "image_table" in catalog.chain.pending else None
    if not (isinstance(photos, PhotosDataset) and photos.files_needed and place and place.exists()):
        return
    if catalog.chain.damage("image_table"):
        return
    table = catalog["image_table"].load()
    paths = table["path"].astype(str).tolist() if "path" in table else []
    gone = [path for path in paths if not Path(path).exists()]
    if gone:
        logger.warning(
            "%d of the %d photos of the last run are not there now, the first is %s; where a disk is not "
            "mounted, mount it and run again: nothing of these photos is deleted or computed anew",
            len(gone),
            len(paths),
            gone[0],
        )


def overridden_in_vain(
    pipeline: Pipeline, catalog: ChainCatalog, overrides: Mapping[str, Any], read: list[str]
) -> Iterator[str]:
    """Yield each parameter that this run cannot have an effect of, and what was used in its place.

    These are the parameters of nodes that do not run, where what is read was made with others,
    and overrides that nothing in the run reads.

    Args:
        pipeline: of the run.
        catalog: of the run.
        overrides: runtime parameters, nested.
        read: artifacts that the run reads.
    """
    # A node that reads nothing but parameters writes them down and makes nothing of them.
    working = [
        node for node in pipeline.nodes if any(not name.startswith(PARAMETERS) for name in node.inputs)
    ]
    groups = {name.removeprefix(PARAMETERS).split(".")[0] for node in working for name in node.inputs}
    used: dict[str, Any] = {}
    for name in read:
        used = {**catalog.chain.making(name).parameters, **used}
    asked = dict(flat(overrides))
    told = set()
    for group in sorted(used.keys() - groups):
        if f"{PARAMETERS}{group}" not in catalog:
            continue
        wanted = dict(flat({group: plain(catalog.load(f"{PARAMETERS}{group}"))}))
        for name, value in flat({group: used[group]}):
            if name in wanted and wanted[name] != value:
                told.add(name)
                yield f"{name}={wanted[name]} (what is read was made with {value})"
    known = {name for group in used for name, _ in flat({group: used[group]})}
    for name, value in asked.items():
        if (
            name.split(".")[0] not in groups
            and name not in told | known
            and f"{PARAMETERS}{name.split('.')[0]}" in catalog
        ):
            yield f"{name}={value} (no step of this run reads it)"

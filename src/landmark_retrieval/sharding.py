"""Long work in resumable shards: a plan names the shards, a store keeps those that are done.

A shard is one `.npz` file of arrays whose name carries a fingerprint of everything its content depends
on. After a kill, or after some inputs changed, only shards whose fingerprint is not in the store are
computed. Shards run through `joblib.Parallel`, in this process, in several, or on a Dask cluster.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import fsspec
import numpy as np
from joblib import Parallel, delayed, parallel_config
from numpy.typing import NDArray
from tqdm import tqdm

from landmark_retrieval.configuration import Configuration
from landmark_retrieval.errors import LandmarkRetrievalError

logger = logging.getLogger(__name__)

Arrays = Mapping[str, NDArray[Any]]
MANIFEST = "manifest.json"


class ExecutorConfig(Configuration):
    """Where shards are computed.

    Attributes:
        backend: `sequential` (this process), `threading`, `loky` (processes of this machine) or `dask`.
        workers: number of workers; None takes every core of this machine (or of the Dask cluster).
        scheduler: address of a running Dask scheduler; None starts a cluster on this machine.
    """

    backend: Literal["sequential", "threading", "loky", "dask"] = "sequential"
    workers: int | None = None
    scheduler: str | None = None


@dataclass(frozen=True)
class ShardTask:
    """One shard to compute.

    Attributes:
        key: name of the shard, unique in its plan; shards are read in the order of the plan.
        fingerprint: digest of every input and parameter that the content depends on.
        compute: picklable function without arguments returning the shard's arrays; must be deterministic.
    """

    key: str
    fingerprint: str
    compute: Callable[[], Arrays]

    @property
    def file_name(self) -> str:
        """Name of the shard's file inside its store."""
        return f"{self.key}-{self.fingerprint}.npz"


@dataclass(frozen=True)
class ShardPlan:
    """All shards of one artifact, in order, and how to compute them.

    Attributes:
        description: what is computed, for progress bars and logs.
        tasks: the shards.
        executor: where they are computed.
        metadata: JSON-serialisable facts kept in the manifest (extractor name, dimensions, ...).
    """

    description: str
    tasks: Sequence[ShardTask]
    executor: ExecutorConfig = field(default_factory=ExecutorConfig)
    metadata: Mapping[str, Any] = field(default_factory=dict)


class ShardStore:
    """A folder of shards on any file system that fsspec knows.

    Args:
        root: folder path or fsspec URL (`s3://bucket/folder`).
    """

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/")

    @property
    def _fs(self) -> fsspec.AbstractFileSystem:
        return fsspec.core.url_to_fs(self.root)[0]

    def _path(self, name: str) -> str:
        return f"{fsspec.core.url_to_fs(self.root)[1]}/{name}"

    def exists(self) -> bool:
        """Return whether a complete artifact (a manifest) is in the store."""
        return bool(self._fs.exists(self._path(MANIFEST)))

    def manifest(self) -> dict[str, Any]:
        """Return the manifest: `shards` (file names in order), `seconds`, `fingerprint`, `metadata`.

        Raises:
            LandmarkRetrievalError: the store holds no complete artifact.
        """
        if not self.exists():
            raise LandmarkRetrievalError(f"{self.root}: no complete artifact here; run its pipeline first")
        with self._fs.open(self._path(MANIFEST), "rt") as file:
            manifest: dict[str, Any] = json.load(file)
        return manifest

    def read(self, file_name: str) -> dict[str, NDArray[Any]]:
        """Return the arrays of one shard by its file name."""
        with self._fs.open(self._path(file_name), "rb") as file, np.load(file, allow_pickle=False) as shard:
            return {name: shard[name] for name in shard.files}

    def __iter__(self) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield the arrays of every shard in the order of the plan."""
        for name in self.manifest()["shards"]:
            yield self.read(name)

    def __len__(self) -> int:
        return len(self.manifest()["shards"])

    def fingerprint(self) -> str:
        """Return the digest of the whole artifact."""
        return str(self.manifest()["fingerprint"])

    def seconds(self) -> float:
        """Return the computing time of all shards, whenever they were computed."""
        return float(self.manifest()["seconds"])

    def run(self, plan: ShardPlan) -> None:
        """Compute the shards of the plan that are not in the store yet, then write the manifest.

        A failing shard stops the run; finished shards stay and are not computed again.
        """
        from landmark_retrieval.configuration import digest

        self._fs.makedirs(self._path(""), exist_ok=True)
        present = {
            path.rsplit("/", 1)[-1] for path in self._fs.ls(self._path(""), detail=False, refresh=True)
        }
        wanted = [task.file_name for task in plan.tasks]
        missing = [task for task in plan.tasks if task.file_name not in present]
        stale = self._describe_reuse(plan, missing, present)
        if missing:
            jobs = (delayed(_compute_and_write)(self, task) for task in missing)
            with tqdm(
                total=len(plan.tasks),
                initial=len(plan.tasks) - len(missing),
                desc=plan.description,
                unit="shard",
            ) as progress:
                for _ in _execute(jobs, plan.executor):
                    progress.update()
        self._write_text(
            MANIFEST,
            json.dumps(
                {
                    "shards": wanted,
                    "fingerprint": digest(wanted, dict(plan.metadata)),
                    "seconds": sum(self._seconds_of(name) for name in wanted),
                    "metadata": dict(plan.metadata),
                },
                indent=1,
            ),
        )
        for name in stale:
            self._fs.rm_file(self._path(name))
            if self._fs.exists(self._path(name + ".seconds")):
                self._fs.rm_file(self._path(name + ".seconds"))

    def _describe_reuse(self, plan: ShardPlan, missing: Sequence[ShardTask], present: set[str]) -> list[str]:
        wanted = {task.file_name for task in plan.tasks}
        stale = sorted(name for name in present if name.endswith(".npz") and name not in wanted)
        reused = len(plan.tasks) - len(missing)
        if reused or stale:
            logger.info(
                "%s: %d of %d shards are done already, %d to compute%s",
                plan.description,
                reused,
                len(plan.tasks),
                len(missing),
                f", {len(stale)} made from other inputs or parameters are replaced" if stale else "",
            )
        return stale

    def _write(self, task: ShardTask, arrays: Arrays, seconds: float) -> None:
        temporary = self._path(f".{task.file_name}.{uuid.uuid4().hex}.tmp")
        with self._fs.open(temporary, "wb") as file:
            np.savez(file, **dict(arrays))  # type: ignore[arg-type]
        self._write_text(task.file_name + ".seconds", f"{seconds:.3f}")
        self._fs.mv(temporary, self._path(task.file_name))

    def _write_text(self, name: str, text: str) -> None:
        temporary = self._path(f".{name}.{uuid.uuid4().hex}.tmp")
        with self._fs.open(temporary, "wt") as file:
            file.write(text)
        self._fs.mv(temporary, self._path(name))

    def _seconds_of(self, name: str) -> float:
        path = self._path(name + ".seconds")
        return float(self._fs.cat_file(path)) if self._fs.exists(path) else 0.0


def _compute_and_write(store: ShardStore, task: ShardTask) -> None:
    start = time.perf_counter()
    arrays = task.compute()
    store._write(task, arrays, time.perf_counter() - start)


def _execute(jobs: Iterator[Any], executor: ExecutorConfig) -> Iterator[None]:
    workers = executor.workers if executor.workers is not None else -1
    if executor.backend == "sequential":
        yield from Parallel(n_jobs=1, return_as="generator")(jobs)
    elif executor.backend == "dask":
        from distributed import Client

        with (
            Client(executor.scheduler, n_workers=executor.workers)
            if executor.scheduler is None
            else Client(executor.scheduler) as client
        ):
            logger.info("Dask dashboard: %s", client.dashboard_link)
            with parallel_config(backend="dask", wait_for_workers_timeout=60):
                yield from Parallel(n_jobs=-1, return_as="generator_unordered")(jobs)
    else:
        with parallel_config(backend=executor.backend):
            yield from Parallel(n_jobs=workers, return_as="generator_unordered")(jobs)

"""Long work in resumable shards: a plan names the shards, a store keeps those that are done.

A shard is one `.npz` file of arrays whose name carries a fingerprint of everything its content depends
on. After a kill, or after some inputs changed, only shards whose fingerprint is not in the store are
computed. Shards run through `joblib.Parallel`, in this process, in several, or on a Dask cluster.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import fsspec
import numpy as np
from fsspec.implementations.local import LocalFileSystem
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky.process_executor import TerminatedWorkerError
from numpy.typing import NDArray
from pydantic import Field
from tqdm import tqdm

from landmark_retrieval.configuration import Configuration, digest
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.runtime.dask_jobs import JobsKilledError, run_on_dask
from landmark_retrieval.runtime.files import whole_file
from landmark_retrieval.runtime.parameters import changed_parameters
from landmark_retrieval.runtime.shard_arrays import ShardArrays, is_as_written
from landmark_retrieval.runtime.threads import library_threads, thread_count

logger = logging.getLogger(__name__)

Arrays = Mapping[str, NDArray[Any]]
MANIFEST = "manifest.json"

ATTEMPTS = 3
"""Times a shard is tried when its worker process dies; an exception inside a shard is not tried again."""


class ExecutorConfig(Configuration):
    """Where shards are computed.

    Attributes:
        backend: `sequential` (this process), `threading`, `loky` (processes of this machine) or `dask`.
        workers: number of workers; None takes every core that this process may use (or all of the Dask
            cluster).
        scheduler: address of a running Dask scheduler; None starts a cluster on this machine.
    """

    backend: Literal["sequential", "threading", "loky", "dask"] = "sequential"
    workers: int | None = Field(default=None, ge=1, le=100_000)
    scheduler: str | None = None

    def alike(self, compute: Callable[[], Arrays]) -> Callable[[], Arrays]:
        """Return a computation whose result depends on its threads so that all workers agree to the last bit.

        Networks add up in another order with another number of threads. `sequential` leaves them all; the
        other backends take one in each shard, however many workers there are.
        """
        return compute if self.backend == "sequential" else partial(_in_one_thread, compute)


def _in_one_thread(compute: Callable[[], Arrays]) -> Arrays:
    with library_threads(1):
        return compute()


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
        parameters: JSON-serialisable options, nested at will, that every fingerprint depends on; kept in the
            manifest, so that the next plan can say which of them changed.
    """

    description: str
    tasks: Sequence[ShardTask]
    executor: ExecutorConfig = field(default_factory=ExecutorConfig)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)


class ShardStore:
    """A folder of shards on any file system that fsspec knows.

    Args:
        root: folder path or fsspec URL (`s3://bucket/folder`).
    """

    def __init__(self, root: str) -> None:
        self.root = root.rstrip("/")

    @property
    def _fs(self) -> fsspec.AbstractFileSystem:
        try:
            return fsspec.core.url_to_fs(self.root)[0]
        except ImportError as error:
            reason = " ".join(str(error).split())
            raise LandmarkRetrievalError(
                f"{self.root}: the package of this file system is missing ({reason})"
            ) from None
        except ValueError as error:
            raise LandmarkRetrievalError(
                f"{self.root}: no such file system ({' '.join(str(error).split())}); "
                "fsspec knows file, s3, gs and others"
            ) from None

    def _path(self, name: str) -> str:
        return f"{fsspec.core.url_to_fs(self.root)[1]}/{name}"

    def exists(self) -> bool:
        """Return whether a complete artifact (a manifest) is in the store."""
        return bool(self._fs.exists(self._path(MANIFEST)))

    def manifest(self) -> dict[str, Any]:
        """Return the manifest: `shards` (names in order), `seconds`, `fingerprint`, `metadata`, `parameters`.

        Raises:
            LandmarkRetrievalError: the store holds no complete artifact.
        """
        if not self.exists():
            raise LandmarkRetrievalError(f"{self.root}: no complete artifact here; run its pipeline first")
        with self._fs.open(self._path(MANIFEST), "rt") as file:
            manifest: dict[str, Any] = json.load(file)
        return manifest

    def read(self, file_name: str) -> dict[str, NDArray[Any]]:
        """Return the arrays of one shard by its file name.

        Raises:
            LandmarkRetrievalError: the file is missing, truncated or damaged.
        """
        with (
            self._reading(file_name),
            self._fs.open(self._path(file_name), "rb") as file,
            np.load(file, allow_pickle=False) as shard,
        ):
            return {name: shard[name] for name in shard.files}

    @contextmanager
    def open(self, file_name: str) -> Iterator[ShardArrays]:
        """Open one shard by its file name, to read parts of its arrays.

        Raises:
            LandmarkRetrievalError: the file is missing or damaged (only what is read is looked at).
        """
        with self._reading(file_name), self._fs.open(self._path(file_name), "rb") as file:
            yield ShardArrays(file)

    @contextmanager
    def _reading(self, file_name: str) -> Iterator[None]:
        try:
            yield
            return
        except FileNotFoundError:
            reason = "missing"
        except (PermissionError, ConnectionError, TimeoutError, MemoryError, LandmarkRetrievalError):
            raise
        except Exception as error:  # the decoders raise many types on damaged files
            reason = f"damaged ({' '.join(str(error).split()) or type(error).__name__})"
        raise LandmarkRetrievalError(
            f"{self.root}/{file_name}: {reason}; delete it and run its pipeline again "
            "(only this shard is computed)"
        )

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

        A failing shard stops the run; finished shards stay and are not computed again. When a worker process
        dies (killed by the system, a node lost), what is missing is given to fresh workers. Until the
        manifest is written the store keeps what it held before.

        Raises:
            LandmarkRetrievalError: two shards of the plan have the same name, or workers keep dying.
        """
        wanted = [task.file_name for task in plan.tasks]
        if len(set(wanted)) < len(wanted):
            raise LandmarkRetrievalError(
                f"{plan.description}: two shards have the same key; make keys unique"
            )
        self._fs.makedirs(self._path(""), exist_ok=True)
        present = self._names()
        notes = self._notes([name for name in wanted if name in present])
        present -= self._damaged(notes)
        missing = [task for task in plan.tasks if task.file_name not in present]
        self._describe_reuse(plan, missing, present)
        self._compute(plan, missing)
        notes |= self._notes([task.file_name for task in missing])
        manifest = {
            "shards": wanted,
            "fingerprint": digest(wanted, dict(plan.metadata)),
            "seconds": sum(float(note.split()[0]) for note in notes.values() if note),
            "metadata": dict(plan.metadata),
            "parameters": dict(plan.parameters),
        }
        self._write_whole(MANIFEST, json.dumps(manifest, indent=1).encode())
        keep = {*wanted, *(name + ".seconds" for name in wanted), MANIFEST}
        left = {
            name for name in self._names() if name.endswith(".tmp")
        }  # also of workers that have just died
        for name in sorted(
            left | {name for name in present - keep if name.endswith((".npz", ".npz.seconds"))}
        ):
            self._remove(name)

    def _remove(self, name: str) -> None:
        with suppress(FileNotFoundError):  # another run was quicker
            self._fs.rm_file(self._path(name))

    def _damaged(self, notes: Mapping[str, str]) -> set[str]:
        """Return which stored shards do not hold what was written; they are named and computed again."""
        damaged = {name for name, note in notes.items() if not self._is_as_written(name, note)}
        if damaged:
            logger.warning(
                "%s: %d shards are damaged and computed again: %s",
                self.root,
                len(damaged),
                ", ".join(sorted(damaged)),
            )
        return damaged

    def _is_as_written(self, name: str, note: str) -> bool:
        with self._fs.open(self._path(name), "rb") as file:
            return is_as_written(file, note.split()[1] if len(note.split()) == 2 else "")

    def _names(self) -> set[str]:
        paths = self._fs.ls(self._path(""), detail=False, refresh=True)
        return {path.rstrip("/").rsplit("/", 1)[-1] for path in paths}

    def _compute(self, plan: ShardPlan, missing: Sequence[ShardTask]) -> None:
        total, suspects = len(plan.tasks), missing
        for attempt in range(1, ATTEMPTS + 1):
            if not missing:
                return
            jobs = (delayed(_compute_and_write)(self, task) for task in missing)
            try:
                with tqdm(
                    total=total, initial=total - len(missing), desc=plan.description, unit="shard"
                ) as progress:
                    for _ in execute(jobs, plan.executor, len(missing), total):
                        progress.update()
                return
            except TerminatedWorkerError:
                missing = suspects = self._left_of(missing)
                logger.warning(
                    "%s: a worker process died (out of memory?); %d shards are left, attempt %d of %d",
                    plan.description,
                    len(missing),
                    attempt,
                    ATTEMPTS,
                )
            except JobsKilledError as error:  # Dask has made all attempts by itself
                tried = [task for _, (_, task), _ in error.jobs]
                suspects = self._left_of(tried) or tried
                break
        if suspects:
            raise LandmarkRetrievalError(
                f"{plan.description}: worker processes keep dying at shard {suspects[0].key}; "
                "give the executor fewer workers or take smaller shards"
            )

    def _left_of(self, tasks: Sequence[ShardTask]) -> list[ShardTask]:
        present = self._names()
        return [task for task in tasks if task.file_name not in present]

    def _describe_reuse(self, plan: ShardPlan, missing: Sequence[ShardTask], present: set[str]) -> None:
        """Log what is taken over from earlier runs, and why the rest is not."""
        wanted = {task.file_name for task in plan.tasks}
        stale = sum(name.endswith(".npz") and name not in wanted for name in present)
        reused = len(plan.tasks) - len(missing)
        if missing and stale:
            before = self._stored_parameters()
            changes = changed_parameters(before, plan.parameters)
            reason = "inputs changed" if before else "inputs or parameters changed"
            if changes:
                reason = f"parameters changed ({', '.join(changes)})"
            logger.info("%s: %s: %d shards are done again", plan.description, reason, len(missing))
        if reused or stale:
            logger.info(
                "%s: %d of %d shards are done already, %d to compute%s",
                plan.description,
                reused,
                len(plan.tasks),
                len(missing),
                f", {stale} made from other inputs or parameters are replaced" if stale else "",
            )

    def _stored_parameters(self) -> dict[str, Any]:
        """Return the parameters of the complete artifact, nothing where there is none or it names none."""
        try:
            return dict(self.manifest().get("parameters", {}))
        except (LandmarkRetrievalError, ValueError, AttributeError, TypeError):
            return {}

    def _write(self, task: ShardTask, arrays: Arrays, seconds: float) -> None:
        buffer = io.BytesIO()
        np.savez(buffer, **dict(arrays))  # type: ignore[arg-type]
        content = buffer.getvalue()
        note = f"{seconds:.3f} {hashlib.sha256(content).hexdigest()}"
        self._write_whole(task.file_name + ".seconds", note.encode())
        self._write_whole(task.file_name, content)

    def _write_whole(self, name: str, content: bytes) -> None:
        """Write a file under a temporary name, see it on a local disk, and give it its name."""
        if isinstance(self._fs, LocalFileSystem):
            try:
                with whole_file(Path(self._path(name))) as temporary:
                    temporary.write_bytes(content)
            except FileNotFoundError:  # another run has ended with this shard, and tidied up
                if not self._fs.exists(self._path(name)):
                    raise
            return
        passing = self._path(f".{name}.{uuid.uuid4().hex}.tmp")
        self._fs.pipe_file(passing, content)
        self._fs.mv(passing, self._path(name))

    def _notes(self, names: Sequence[str]) -> dict[str, str]:
        """Return what is noted beside shards, seconds and checksum; "" for nothing.

        All are read in one call, concurrently in a bucket.
        """
        if not names:
            return {}
        # Unlike `cat` it takes names as they are, brackets and stars among them.
        texts = self._fs.cat_ranges([self._path(name + ".seconds") for name in names], None, None)
        for text in texts:
            if isinstance(text, Exception) and not isinstance(text, FileNotFoundError):
                raise text
        notes = ("" if isinstance(text, Exception) else text.decode(errors="replace") for text in texts)
        return dict(zip(names, notes, strict=True))


def _compute_and_write(store: ShardStore, task: ShardTask) -> None:
    start = time.perf_counter()
    arrays = task.compute()
    store._write(task, arrays, time.perf_counter() - start)


def execute(jobs: Iterator[Any], executor: ExecutorConfig, count: int, total: int) -> Iterator[Any]:
    """Run jobs where an executor says, and yield their results as they come.

    Args:
        jobs: made by `joblib.delayed`; drawn a few ahead of the workers.
        executor: where.
        count: jobs at most.
        total: of them and of those that an earlier attempt has done.

    Raises:
        TerminatedWorkerError: a worker process died.
        JobsKilledError: the same on a Dask cluster, after all attempts.
    """
    # A plan of one shard is not worth a process; the last one of many is: it may be what kills its workers.
    if executor.backend == "sequential" or (total == 1 and executor.backend != "dask"):
        yield from Parallel(n_jobs=1, return_as="generator")(jobs)
    elif executor.backend == "dask":
        yield from run_on_dask(jobs, executor.workers, executor.scheduler, count, ATTEMPTS)
    else:
        # joblib takes this process for one worker, even of `loky`.
        workers = min(thread_count(executor.workers or 0), max(count, 2))
        # The threads of libraries are the whole process's: were each worker thread to limit them and to put
        # them back, one could put back the limit of another.
        limit = library_threads(1) if executor.backend == "threading" else nullcontext()
        with limit, parallel_config(backend=executor.backend):
            yield from Parallel(n_jobs=workers, return_as="generator_unordered")(jobs)

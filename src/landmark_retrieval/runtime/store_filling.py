"""How one request to the store computes what is missing: in rounds, beside other runs that do the same."""

from __future__ import annotations

import itertools
import logging
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from joblib import delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError
from numpy.typing import NDArray
from tqdm import tqdm

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.runtime.claims import Claims
from landmark_retrieval.runtime.dask_jobs import JobsKilledError
from landmark_retrieval.runtime.sharding import ATTEMPTS, ExecutorConfig, execute
from landmark_retrieval.runtime.store_files import (
    KEYS,
    REASONS,
    SECONDS,
    Arrays,
    Folder,
    NoSpaceError,
    keep_rows,
    pack,
    state_of,
)
from landmark_retrieval.runtime.store_index import Entry, Index, Keys
from landmark_retrieval.runtime.threads import thread_count

logger = logging.getLogger(__name__)

PASSING = "passing"
"""Array of a computation, bool `[b]`: failed for a reason that may pass, so that it is not kept."""

WAIT = 0.5
"""Seconds between looks at what other runs have finished."""


@dataclass(frozen=True)
class Request:
    """How missing results are computed.

    Attributes:
        what: is computed, for the log and the bar.
        unit: photo or pair.
        prepare: takes positions among the keys, int64 `[b]`, and returns a picklable function that computes
            the arrays of these: rows in their order, `parts.*` with `offsets` for results of several rows,
            `reasons` ("" for a result) and `passing`.
        size: results of a shard at most, what is lost at most by a kill.
        executor: where.
        shared: whether shards are made smaller where there would be fewer of them than workers.
    """

    what: str
    unit: str
    prepare: Callable[[NDArray[np.int64]], Callable[[], Arrays]]
    size: int
    executor: ExecutorConfig = field(default_factory=ExecutorConfig)
    shared: bool = False


class Filling:
    """The rounds in which one request computes what is missing."""

    def __init__(
        self,
        folder: Folder,
        index: Index,
        keys: Keys,
        first: NDArray[np.int64],
        request: Request,
        claims: Claims,
        failed: dict[bytes, str],
    ) -> None:
        self.folder, self.index, self.keys, self.first = folder, index, keys, first
        self.request, self.claims, self.failed = request, claims, failed
        self.computed = self.written = 0

    def run(self) -> int:
        """Compute until nothing is missing; return the number of results that this run computed."""
        attempt = 1
        missing = self._missing()
        with tqdm(
            total=len(self.first),
            initial=len(self.first) - len(missing),
            desc=self.request.what,
            unit=self.request.unit,
        ) as bar:
            while len(missing):
                before = self.computed
                try:
                    self._round(missing, bar)
                except TerminatedWorkerError:
                    if attempt == ATTEMPTS:
                        raise self._dying() from None
                    attempt += 1
                    logger.warning(
                        "%s: a worker process died (out of memory?); attempt %d of %d",
                        self.request.what,
                        attempt,
                        ATTEMPTS,
                    )
                    self.claims.release(self._names(missing))
                except JobsKilledError:  # Dask has made all attempts by itself
                    raise self._dying() from None
                except NoSpaceError as error:
                    raise self._full(error) from None
                self.index.refresh(self.folder.listing())
                left = self._missing()
                if self.computed == before and len(left) == len(missing):
                    self._wait(left)
                bar.update(max(0, len(self.first) - len(left) - bar.n))
                missing = left
        return self.computed

    def _missing(self) -> NDArray[np.int64]:
        missing = self.first[~self.index.find(self.keys[self.first]).there]
        if not self.failed:
            return missing
        return np.array([at for at in missing if bytes(self.keys[at]) not in self.failed], np.int64)

    def _round(self, missing: NDArray[np.int64], bar: tqdm[Any]) -> None:
        """Compute all that no other run is computing."""
        chunks = self._chunks(missing)
        jobs = self._jobs(chunks)
        first = next(jobs, None)
        if first is None:
            return
        for name, entry, failures, size in execute(
            itertools.chain([first], jobs), self.request.executor, len(chunks), len(chunks)
        ):
            if name:
                self.index.entries[name] = entry
            self.failed |= failures
            self.computed += len(entry.keys)
            self.written += size
            self.claims.release([key.decode() for key in (*entry.keys.tolist(), *failures)])
            bar.update(len(entry.keys) + len(failures))
        self.index.forget_lookup()

    def _chunks(self, missing: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        size, executor = self.request.size, self.request.executor
        if not self.request.shared:
            return np.split(missing, np.arange(size, len(missing), size))
        workers = 1 if executor.backend == "sequential" else thread_count(executor.workers or 0)
        return np.array_split(missing, max(-(-len(missing) // size), min(workers, len(missing))))

    def _jobs(self, chunks: list[NDArray[np.int64]]) -> Iterator[Any]:
        folder, token = self.folder, self.claims.token
        for chunk in chunks:
            names = self._names(chunk)
            taken = self.claims.take(names)
            chunk = chunk[[name in taken for name in names]]
            if self.claims.company and len(chunk):
                # Another run may have finished some of these since this one looked.
                here = Index(folder, dict(self.index.entries))
                here.refresh(folder.listing())
                done = here.find(self.keys[chunk]).there
                self.claims.release(self._names(chunk[done]))
                chunk = chunk[~done]
            if len(chunk):
                compute = self.request.executor.alike(self.request.prepare(chunk))
                yield delayed(_compute_and_write)(folder, token, self.keys[chunk], compute)

    def _names(self, positions: NDArray[np.int64]) -> list[str]:
        return [key.decode() for key in self.keys[positions].tolist()]

    def _wait(self, missing: NDArray[np.int64]) -> None:
        """Wait a moment for what other runs are computing; say so once."""
        others = self.claims.others()
        if others and not getattr(self, "_said", False):
            self._said = True
            logger.info(
                "%s: waiting for %d %ss that another run is computing (%s)",
                self.request.what,
                len(missing),
                self.request.unit,
                "; ".join(sorted(claim.owner for claim in others.values())),
            )
        time.sleep(random.uniform(0.5, 1.5) * WAIT)

    def _dying(self) -> LandmarkRetrievalError:
        return LandmarkRetrievalError(
            f"{self.request.what}: worker processes keep dying; give the executor fewer workers or take "
            "smaller shards (what is done is kept)"
        )

    def _full(self, error: NoSpaceError) -> LandmarkRetrievalError:
        """Return the message of a full disk: what is missing."""
        self.index.forget_lookup()
        left = len(self._missing())
        missing = f"{left} {self.request.unit}s are still to be stored"
        if self.computed:
            missing += f", about {left * self.written / self.computed / 2**20:.0f} MiB"
        return NoSpaceError(f"{error}: {missing}")


def _compute_and_write(
    folder: Folder, token: str, keys: Keys, compute: Callable[[], Arrays]
) -> tuple[str, Entry, dict[bytes, str], int]:
    """Compute results and write those that can be kept as a shard.

    Returns:
        Its name and what it holds, why others failed that may succeed another time, and its size in bytes.
    """
    start = time.perf_counter()
    arrays = dict(compute())
    passing = arrays.pop(PASSING, np.zeros(len(keys), np.bool_))
    failures = {
        bytes(key): str(reason)
        for key, reason in zip(keys[passing], arrays.get(REASONS, keys)[passing], strict=False)
    }
    kept = np.flatnonzero(~passing)
    seconds = (time.perf_counter() - start) / max(1, len(keys))
    arrays = {KEYS: keys, SECONDS: np.full(len(keys), seconds, np.float32), **arrays}
    if len(kept) < len(keys):
        arrays = keep_rows(arrays, kept)
    if not len(kept):
        return "", Entry.bad("", ""), failures, 0
    name, content = pack(arrays)
    folder.write(name, content, token)
    state = state_of(folder.fs.info(folder.path(name)))
    return name, Entry.of(state, arrays), failures, len(content)

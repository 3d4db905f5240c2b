"""Searches in threads: so many at once, so many waiting, and a clear refusal beyond."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from landmark_retrieval.runtime.threads import thread_count

Result = TypeVar("Result")

FIRST_GUESS = 3.0
"""Seconds that a piece of work is thought to take before one has been measured."""


class BusyError(Exception):
    """Too much is waiting.

    Attributes:
        seconds: after which it is worth coming back.
    """

    def __init__(self, seconds: int) -> None:
        super().__init__(f"too many requests at once: come back in {seconds} s")
        self.seconds = seconds


class Work:
    """Runs what takes a core for seconds, in threads.

    Numerical libraries take `threads` threads for each piece of work: two searches side by side finish more
    photos than one that is spread over two cores.

    Args:
        workers: pieces of work at once; 0 for one a core.
        waiting: pieces that may wait besides.
        threads: of the numerical libraries, for each piece.
    """

    def __init__(self, workers: int = 0, waiting: int = 32, threads: int = 1) -> None:
        self.workers = workers or thread_count(0)
        self.most = self.workers + waiting
        self.admitted = self.running = 0
        self._seconds = FIRST_GUESS
        self._pool = ThreadPoolExecutor(self.workers, "work", initializer=_take_threads, initargs=(threads,))

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Hold a place while a request is read and worked on.

        Raises:
            BusyError: all places are taken.
        """
        if self.admitted >= self.most:
            raise BusyError(self.wait())
        self.admitted += 1
        try:
            yield
        finally:
            self.admitted -= 1

    def wait(self) -> int:
        """Return the seconds after which all that is waiting now will be done, at least 1."""
        return max(1, math.ceil(self._seconds * self.admitted / self.workers))

    async def run(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Return what a function returns, called in one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._timed, function, *arguments)

    def _timed(self, function: Callable[..., Result], *arguments: Any) -> Result:
        start = time.perf_counter()
        self.running += 1
        try:
            return function(*arguments)
        finally:
            self.running -= 1
            self._seconds += 0.2 * (time.perf_counter() - start - self._seconds)

    def close(self) -> None:
        """Let what runs end, and nothing more begin."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def _take_threads(threads: int) -> None:
    """Set how many threads PyTorch takes for what this thread calls."""
    import torch

    torch.set_num_threads(threads)

"""Computing in one thread, also where several threads of a process do so at a time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from threadpoolctl import threadpool_limits


class _SharedLimit:
    """A limit on the threads of BLAS, the whole process's: set by the first user, lifted by the last.

    Each user for itself would take the limit of another for the state to come back to.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._limit: threadpool_limits | None = None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        with self._lock:
            if self._users == 0:
                self._limit = threadpool_limits(1, user_api="blas")
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0 and self._limit is not None:
                    self._limit.restore_original_limits()


_BLAS = _SharedLimit()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let libraries use one thread for what the calling thread computes, and as many as before afterwards."""
    # OpenMP counts for each thread by itself. Its limit comes second: on leaving, it puts back all it found.
    with _BLAS.held(), threadpool_limits(1, user_api="openmp"):
        yield

"""Compiled loops: one way to compile them, and one way to run them in parallel threads."""

from __future__ import annotations

import queue
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

Workspace = TypeVar("Workspace")


def compiled(
    function: Callable[..., Any] | None = None, *, fastmath: bool | set[str] = False
) -> Callable[..., Any]:
    """Compile a function to machine code that runs without the interpreter lock, kept on disk.

    As a decorator, bare or with options.

    The compiled code is stored beside the source, or in numba's cache folder of the user when the source
    folder is read-only (`NUMBA_CACHE_DIR` overrides both). Where neither can be written to, it is compiled
    anew in every process.

    Args:
        function: to compile; None returns the decorator.
        fastmath: liberties of the arithmetic, as numba names them; by default none.
    """
    if function is None:
        return partial(compiled, fastmath=fastmath)
    try:
        return numba.njit(nogil=True, cache=True, fastmath=fastmath)(function)
    except RuntimeError:  # no folder for the cache
        return numba.njit(nogil=True, fastmath=fastmath)(function)


def frozen(array: NDArray[Any], dtype: Any = None) -> NDArray[Any]:
    """Return a contiguous read-only view (a copy only if the layout or dtype requires one).

    Arrays in memory and memory-mapped files then have one type for the compiler, so that nothing is
    compiled twice.
    """
    view = np.ascontiguousarray(array, dtype=dtype).view(np.ndarray)[...]
    view.flags.writeable = False
    return view


def run_chunks(
    count: int,
    chunk: int,
    threads: int,
    make_workspace: Callable[[], Workspace],
    work: Callable[[Workspace, int, int], Any],
) -> list[Any]:
    """Run a compiled loop over `range(count)` in chunks, each thread with a workspace of its own.

    Args:
        count: number of items.
        chunk: items handed out at a time.
        threads: most threads to use.
        make_workspace: makes the arrays that one thread reuses from chunk to chunk.
        work: called with a workspace, the first item and the item after the last.

    Returns:
        What `work` returned, in the order of the chunks.
    """
    starts = range(0, count, chunk)
    threads = min(threads, len(starts))
    if threads <= 1:
        workspace = make_workspace()
        return [work(workspace, start, min(start + chunk, count)) for start in starts]
    free: queue.SimpleQueue[Workspace] = queue.SimpleQueue()
    for _ in range(threads):
        free.put(make_workspace())

    def task(start: int) -> Any:
        workspace = free.get()
        try:
            return work(workspace, start, min(start + chunk, count))
        finally:
            free.put(workspace)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(task, starts))

"""How many threads the numerical libraries of this process take."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from threadpoolctl import threadpool_limits

from landmark_retrieval.runtime.cores import allowed_cores


def thread_count(threads: int) -> int:
    """Return the number of threads to use: `threads`, or as many as this process may use when 0."""
    return threads if threads > 0 else allowed_cores()


@contextlib.contextmanager
def library_threads(threads: int) -> Iterator[None]:
    """Let PyTorch, NumPy and FAISS use at most so many threads, and as many as before afterwards.

    PyTorch is told itself: it hands the number that it was told last to each new thread and to the BLAS
    inside it, whatever limit OpenMP has been given in the meantime.
    """
    import torch  # here, as what this module serves need not have been loaded by every worker

    faiss = sys.modules.get("faiss")
    before = torch.get_num_threads(), faiss.omp_get_max_threads() if faiss else 0
    fewer = threads < thread_count(0)
    if threads < before[0]:
        torch.set_num_threads(threads)
    if faiss:
        faiss.omp_set_num_threads(min(threads, before[1]))
    try:
        with threadpool_limits(threads, user_api="blas") if fewer else contextlib.nullcontext():
            yield
    finally:
        if threads < before[0]:
            torch.set_num_threads(before[0])
        if faiss:
            faiss.omp_set_num_threads(before[1])

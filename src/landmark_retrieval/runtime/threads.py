"""How many threads the numerical libraries of this process take."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from threadpoolctl import threadpool_limits

from landmark_retrieval.runtime.compiled import thread_count


@contextlib.contextmanager
def library_threads(threads: int) -> Iterator[None]:
    """Let PyTorch, NumPy and FAISS use at most so many threads, and as many as before afterwards.

    PyTorch is told itself: it hands the number that it was told last to each new thread and to the BLAS
    inside it, whatever limit OpenMP has been given in the meantime.
    """
    import faiss  # here, as what this module serves need not have been loaded by every worker
    import torch

    before = torch.get_num_threads(), faiss.omp_get_max_threads()
    fewer = threads < thread_count(0)
    if threads < before[0]:
        torch.set_num_threads(threads)
    faiss.omp_set_num_threads(min(threads, before[1]))
    try:
        with threadpool_limits(threads, user_api="blas") if fewer else contextlib.nullcontext():
            yield
    finally:
        if threads < before[0]:
            torch.set_num_threads(before[0])
        faiss.omp_set_num_threads(before[1])

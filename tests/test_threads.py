"""One thread for whoever asks, and afterwards as many as before, whoever leaves first."""

from __future__ import annotations

import threading

import numpy as np  # its BLAS is what is limited
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from landmark_retrieval.threads import one_thread


def blas_threads() -> set[int]:
    """Return the threads of BLAS libraries that have threads of their own; others count as OpenMP."""
    return {
        library["num_threads"]
        for library in threadpool_info()
        if library["user_api"] == "blas" and library["threading_layer"] != "openmp"
    }


def test_the_limit_is_lifted_when_the_last_leaves() -> None:
    assert np.ones(2) @ np.ones(2) == 2
    entered, leave = threading.Event(), threading.Event()
    seen: list[tuple[set[int], int]] = []

    def other() -> None:
        with one_thread():
            seen.append((blas_threads(), torch.get_num_threads()))
            entered.set()
            leave.wait(30)

    with threadpool_limits(2):
        with one_thread():
            thread = threading.Thread(target=other)
            thread.start()
            assert entered.wait(30)
        # The first is gone, the second still computes.
        assert blas_threads() == {1} and seen == [({1}, 1)]
        leave.set()
        thread.join()
        assert blas_threads() == {2}


def test_within_one_another_and_after_an_error() -> None:
    with threadpool_limits(2):
        try:
            with one_thread(), one_thread():
                raise KeyError
        except KeyError:
            pass
        assert blas_threads() == {2}
        assert torch.get_num_threads() == 2

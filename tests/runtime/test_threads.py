import threading

import faiss
import pytest
import torch

from blas_threads import blas_threads
from landmark_retrieval.runtime.threads import library_threads

pytestmark = pytest.mark.usefixtures("three_threads")


def test_threads_of_libraries_are_limited_and_come_back():
    with library_threads(1):
        assert (torch.get_num_threads(), faiss.omp_get_max_threads()) == (1, 1)
        assert blas_threads() == {1}
    with library_threads(8):
        assert (torch.get_num_threads(), faiss.omp_get_max_threads()) == (3, 3)
    assert (torch.get_num_threads(), faiss.omp_get_max_threads()) == (3, 3)


def test_new_threads_of_the_process_are_limited_too():
    seen = []
    with library_threads(1):
        thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        thread.start()
        thread.join()
    assert seen == [1]

"""The node that measures an approximate search, against neighbours found by brute force."""

import numpy as np
import pandas as pd
import pytest

from landmark_retrieval.descriptors import Descriptors
from landmark_retrieval.knn import ApproximateConfig, KnnConfig
from landmark_retrieval.pipelines.knn_graph.nodes import measure_recall

K = 10


@pytest.fixture(scope="module")
def described() -> tuple[Descriptors, pd.DataFrame]:
    random = np.random.default_rng(0)
    matrix = random.normal(size=(620, 16)).astype(np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    ids = np.array([f"image{row}" for row in range(len(matrix))])
    table = pd.DataFrame({"image_id": ids, "split": ["query"] * 10 + ["index"] * 600 + ["train"] * 10})
    return Descriptors(ids, matrix), table


def test_exact_search_finds_all(described):
    assert measure_recall(*described, KnnConfig(k=K)) == 1.0


def test_recall_of_inverted_lists_is_what_they_reach(described):
    descriptors, table = described
    one, all_lists = (
        measure_recall(
            descriptors, table, KnnConfig(k=K, approximate=ApproximateConfig(lists=8, probes=probes))
        )
        for probes in (1, 8)
    )
    # Every list visited is exact search; one of eight visited misses most neighbours of random directions.
    assert all_lists == 1.0
    assert 0.1 < one < 0.8

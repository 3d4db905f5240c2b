"""The node that expands descriptors: equal to the plain computation, and streamed."""

import tracemalloc

import numpy as np
import pandas as pd
import pytest

from landmark_retrieval.collection import SplitRows
from landmark_retrieval.descriptors import BlockArray, Descriptors
from landmark_retrieval.io import ArrayBundleDataset
from landmark_retrieval.knn import KnnGraph, NeighborLists
from landmark_retrieval.local_features import LocalFeaturesConfig
from landmark_retrieval.pipelines.spatial_verification.nodes import calibrate_pairs, expand_descriptors
from landmark_retrieval.retrieval import stages
from landmark_retrieval.retrieval.stages import Verified
from landmark_retrieval.verification import (
    ExpansionConfig,
    VerificationConfig,
    candidate_pairs,
)
from landmark_retrieval.verification.calibration import NEVER

QUERIES, INDEX, TRAIN, DIMENSIONS, FLOOR = 200, 4000, 20_000, 64, 10


@pytest.fixture
def inputs(tmp_path):
    """Return a function that stores descriptors of a type and gives the arguments of the node."""

    def make(dtype):
        random = np.random.default_rng(0)
        count = QUERIES + INDEX + TRAIN
        rows = random.normal(size=(count, DIMENSIONS)).astype(np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        ids = np.array([f"image{row}" for row in range(count)])
        table = pd.DataFrame(
            {"image_id": ids, "split": ["query"] * QUERIES + ["index"] * INDEX + ["train"] * TRAIN}
        )
        graph = KnnGraph(
            *(
                NeighborLists(
                    random.integers(0, INDEX, (n, 5)).astype(np.int32),
                    np.sort(random.random((n, 5)).astype(np.float32))[:, ::-1],
                )
                for n in (QUERIES, INDEX)
            )
        )
        pairs = candidate_pairs(graph, 5)
        inliers = random.integers(0, 2 * FLOOR, len(pairs)).astype(np.int32)
        verified = pd.DataFrame({"row_a": pairs[:, 0], "row_b": pairs[:, 1], "inliers": inliers})
        by_hand = VerificationConfig(candidates=5, min_inliers=FLOOR)
        fits, _ = calibrate_pairs(verified, LocalFeaturesConfig(), table, by_hand)
        stored = bundle(tmp_path / "before")
        stored.save(Descriptors(ids, rows.astype(dtype)))
        return (stored.load(), graph, verified, fits, table, by_hand, ExpansionConfig())

    return make


def bundle(folder):
    return ArrayBundleDataset(filepath=str(folder), bundle="landmark_retrieval.descriptors.Descriptors")


def plainly(descriptors, graph, verified, fits, table, verification, config):
    """Return all expanded rows at once, in float32."""
    rows, whole = SplitRows.from_table(table), np.array(descriptors.matrix)
    queries, index = whole[rows.query], whole[rows.index]
    known = Verified(verified, len(queries), verification.candidates, (FLOOR, FLOOR))
    sides = [
        stages.expand(queries, index, graph.queries, known, config),
        stages.expand(index, index, graph.index, known, config, of_index=True),
    ]
    return np.concatenate([*map(np.asarray, sides), whole[rows.train].astype(np.float32)])


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_expanded_rows_are_those_of_the_plain_computation(inputs, dtype):
    arguments = inputs(dtype)
    result = expand_descriptors(*arguments)
    assert isinstance(result.matrix, BlockArray) and result.matrix.dtype == dtype
    expected, before = plainly(*arguments).astype(dtype), np.array(arguments[0].matrix)
    assert np.asarray(result.matrix).tobytes() == expected.tobytes()
    changed = (expected != before).any(axis=1)
    assert changed[: QUERIES + INDEX].mean() > 0.9 and not changed[QUERIES + INDEX :].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_matrix_is_never_held_whole(inputs, dtype, monkeypatch, tmp_path):
    monkeypatch.setattr(stages, "BLOCK", 64)
    arguments = inputs(dtype)
    whole = arguments[0].matrix.nbytes
    after = bundle(tmp_path / "after")
    tracemalloc.start()
    try:
        result = expand_descriptors(*arguments)
        kept = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        after.save(result)
        streaming = tracemalloc.get_traced_memory()[1] - kept
    finally:
        tracemalloc.stop()
    assert kept < whole / 8
    assert streaming < whole / 8
    assert after.load().matrix.nbytes == whole


def test_each_side_expands_from_its_own_floor(inputs):
    descriptors, graph, verified, _, table, verification, config = inputs(np.float32)
    never = {"pairs": 0, "top": 100, "unrelated": None, "rate": None}
    fits = {"query_index": {**never, "start": FLOOR}, "index_index": {**never, "start": NEVER}}
    after = np.asarray(
        expand_descriptors(descriptors, graph, verified, fits, table, verification, config).matrix
    )
    changed = (after != descriptors.matrix).any(axis=1)
    assert changed[:QUERIES].mean() > 0.9
    assert not changed[QUERIES:].any()


def test_every_tried_pair_gets_a_probability(inputs):
    _, _, verified, _, table, _, _ = inputs(np.float32)
    features = LocalFeaturesConfig()
    fits, probabilities = calibrate_pairs(verified, features, table, VerificationConfig())
    assert set(fits) == {"query_index", "index_index"}
    assert probabilities["probability"].dtype == np.float32
    assert probabilities["probability"].between(0, 1).all()
    pd.testing.assert_frame_equal(probabilities[["row_a", "row_b"]], verified[["row_a", "row_b"]])

"""Candidate pairs, their verification in shards, and its independence of workers, order and kills."""

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from verification_scenes import HOMOGRAPHIES, FeatureStore, carry, photo

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.knn import KnnGraph, NeighborLists
from landmark_retrieval.runtime.sharding import ExecutorConfig, ShardStore
from landmark_retrieval.verification import (
    MatchingConfig,
    RansacConfig,
    VerificationConfig,
    candidate_pairs,
    collect_pairs,
    floor_of,
    plan_verification,
)
from landmark_retrieval.verification.floors import MIN_INLIERS
from landmark_retrieval.verification.pairs import pair_seed, verify_pair

CONFIG = VerificationConfig(shard_size=2)


def every_pair(count):
    return np.array([(i, j) for i in range(count) for j in range(i + 1, count)], np.int64)


def shard_bytes(folder):
    return {path.name: path.read_bytes() for path in sorted(Path(folder).glob("*.npz"))}


@pytest.fixture
def verified(tmp_path, feature_store):
    store = ShardStore(str(tmp_path / "verified"))
    store.run(plan_verification(every_pair(8), feature_store, CONFIG))
    return store


def lists(queries, index):
    """Return a graph of these neighbours; what they weigh is of no matter here."""
    return KnnGraph(*(NeighborLists(side, np.zeros(side.shape, np.float32)) for side in (queries, index)))


def test_candidate_pairs_of_a_small_graph():
    queries = np.array([[1, 0, -1], [2, 1, 0]], np.int32)
    index = np.array([[1, 2, -1], [0, 1, 2], [-1, -1, -1]], np.int32)
    graph = lists(queries, index)
    pairs = candidate_pairs(graph, 2)
    # Table rows: queries 0 and 1, index images 2, 3 and 4; index image 1 names itself, which is no pair.
    assert pairs.tolist() == [[0, 2], [0, 3], [1, 3], [1, 4], [2, 3], [2, 4]]
    assert pairs.dtype == np.int64
    assert candidate_pairs(graph, 1, database_side=False).tolist() == [[0, 3], [1, 4]]
    assert candidate_pairs(lists(queries[:0], index[:0]), 10).shape == (0, 2)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 6), st.integers(1, 9), st.integers(1, 5), st.integers(1, 6), st.integers(0, 999))
def test_candidate_pairs_equal_a_slow_loop(queries, index, k, candidates, seed):
    random = np.random.default_rng(seed)
    query_neighbors = random.integers(-1, index, (queries, k)).astype(np.int32)
    index_neighbors = random.integers(-1, index, (index, k)).astype(np.int32)
    expected = set()
    for first, neighbors in ((0, query_neighbors), (queries, index_neighbors)):
        for i, row in enumerate(neighbors):
            for j in row[:candidates]:
                if j >= 0 and first + i != queries + j:
                    expected.add((min(first + i, queries + j), max(first + i, queries + j)))
    found = candidate_pairs(lists(query_neighbors, index_neighbors), candidates)
    assert [tuple(pair) for pair in found.tolist()] == sorted(expected)


def test_scenes_are_told_apart(verified):
    table = collect_pairs(verified)
    assert list(table.columns[:4]) == ["row_a", "row_b", "matches", "inliers"]
    reliable = table[table["inliers"] >= floor_of(verified)]
    assert set(zip(reliable["row_a"], reliable["row_b"], strict=True)) == {(0, 4), (1, 5), (1, 6), (5, 6)}
    assert floor_of(verified) == MIN_INLIERS["aliked"]
    assert (table.loc[table["row_b"] == 7, ["matches", "inliers"]] == 0).all(axis=None)
    assert table[["row_a", "row_b"]].to_numpy().tolist() == every_pair(8).tolist()


def test_homographies_are_in_pixels_of_the_original_images(verified, album):
    table = collect_pairs(verified).set_index(["row_a", "row_b"])
    for pair, planted in (((0, 4), HOMOGRAPHIES[0]), ((1, 5), HOMOGRAPHIES[1])):
        found = table.loc[pair].iloc[2:].to_numpy(float).reshape(3, 3)
        points = album[pair[0]].keypoints
        errors = np.linalg.norm(carry(found, points) - carry(planted, points), axis=1)
        assert np.median(errors) < 1.0


def test_large_photos_verify_like_small_ones(album):
    config = CONFIG.resolve("aliked")
    small = verify_pair(album[0], album[4], config, 1)
    large = type(album[4])(album[4].keypoints * 8, album[4].descriptors, album[4].scores, album[4].scales)
    enlarged = verify_pair(album[0], large, config, 1)
    assert enlarged.inliers == small.inliers
    np.testing.assert_allclose(
        np.diag([8, 8, 1]) @ small.homography, enlarged.homography, rtol=1e-3, atol=1e-3
    )


def test_unrelated_photos_have_no_inliers_and_no_homography():
    config = VerificationConfig(matching=MatchingConfig(ratio=0.95)).resolve("aliked")
    a, b = photo(0, count=400, dimensions=128), photo(1, count=400, dimensions=128)
    result = verify_pair(a, b, config, 0)
    assert result.inliers == 0 and not result.homography.any()


@pytest.mark.parametrize(("backend", "workers"), [("threading", 2), ("loky", 1), ("loky", 2), ("dask", 2)])
def test_equal_bytes_from_every_executor(tmp_path, feature_store, verified, backend, workers):
    if backend == "dask":
        pytest.importorskip("distributed")
    store = ShardStore(str(tmp_path / backend))
    executor = ExecutorConfig(backend=backend, workers=workers)
    store.run(plan_verification(every_pair(8), feature_store, CONFIG, executor))
    assert shard_bytes(store.root) == shard_bytes(verified.root)
    assert store.fingerprint() == verified.fingerprint()


def test_results_depend_on_neither_order_nor_company(tmp_path, feature_store, verified):
    table = collect_pairs(verified)
    other = ShardStore(str(tmp_path / "other"))
    some = every_pair(8)[::-3]
    other.run(plan_verification(some, feature_store, VerificationConfig(shard_size=5)))
    found = collect_pairs(other)
    expected = table.merge(found[["row_a", "row_b"]])
    assert len(found) == len(some)
    assert found.equals(expected)


def test_a_plan_names_only_what_a_shard_depends_on(tmp_path, album, feature_store):
    def names(pairs=None, store=feature_store, config=CONFIG):
        plan = plan_verification(every_pair(8) if pairs is None else pairs, store, config)
        return {task.key: task.fingerprint for task in plan.tasks}

    def changed(other):
        return {key for key in names() if other.get(key) != names()[key]}

    # Shards by first image: 0-1, 2-3, 4-5, 6-7.
    assert sorted(names()) == [f"pairs-{i:07d}" for i in range(4)]
    assert not changed(names(config=VerificationConfig(shard_size=2, candidates=3)))
    assert not changed(names(pairs=every_pair(8)[::-1]))
    assert len(changed(names(config=VerificationConfig(shard_size=2, seed=1)))) == 4
    assert len(changed(names(config=VerificationConfig(shard_size=2, ransac=RansacConfig(threshold=3))))) == 4
    assert changed(names(pairs=every_pair(8)[:-1])) == {"pairs-0000003"}
    assert changed(names(pairs=every_pair(6))) == {
        "pairs-0000000",
        "pairs-0000001",
        "pairs-0000002",
        "pairs-0000003",
    }
    renewed = FeatureStore(str(tmp_path / "renewed")).save(album, ["f", "f", "changed", "f"])
    only_early = every_pair(4)
    assert names(only_early) == names(only_early, renewed)
    assert len(changed(names(store=renewed))) == 3


def test_a_plan_can_be_pickled(feature_store):
    task = plan_verification(every_pair(8), feature_store, CONFIG).tasks[0]
    assert pickle.loads(pickle.dumps(task)).compute()["pairs"].tolist() == task.compute()["pairs"].tolist()


def test_no_pairs_at_all(tmp_path, feature_store):
    store = ShardStore(str(tmp_path / "none"))
    store.run(plan_verification(np.zeros((0, 2), np.int64), feature_store, CONFIG))
    table = collect_pairs(store)
    assert len(table) == 0 and len(table.columns) == 13


def test_another_store_is_refused(feature_store):
    with pytest.raises(LandmarkRetrievalError, match="not a spatial verification"):
        floor_of(feature_store)


def test_seeds_differ_from_pair_to_pair():
    seeds = {pair_seed(seed, a, b) for seed in (0, 1) for a, b in every_pair(40)}
    assert len(seeds) == 2 * 780
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_killed_and_resumed_gives_equal_bytes(tmp_path, feature_store, verified):
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import sys, time
            sys.path.insert(0, {str(Path(__file__).parent)!r})
            import numpy as np
            from verification_scenes import FeatureStore
            from landmark_retrieval.runtime.sharding import ShardStore
            from landmark_retrieval.verification import plan_verification, pairs
            from test_pairs import CONFIG, every_pair
            original = pairs.verify_pair
            def slow(*arguments):
                time.sleep(0.05)
                return original(*arguments)
            pairs.verify_pair = slow
            features = FeatureStore({feature_store.root!r})
            ShardStore({str(tmp_path / "store")!r}).run(plan_verification(every_pair(8), features, CONFIG))
            """
        )
    )
    process = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not shard_bytes(tmp_path / "store"):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    store = ShardStore(str(tmp_path / "store"))
    assert not store.exists()
    done = shard_bytes(store.root)
    times = {name: (Path(store.root) / name).stat().st_mtime_ns for name in done}
    store.run(plan_verification(every_pair(8), feature_store, CONFIG))
    assert shard_bytes(store.root) == shard_bytes(verified.root)
    assert times == {name: (Path(store.root) / name).stat().st_mtime_ns for name in done}

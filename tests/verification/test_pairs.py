"""Candidate pairs, their verification, and its independence of workers, order, company and earlier runs."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from verification_scenes import HOMOGRAPHIES, carry, photo, store_features

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.knn import KnnGraph, NeighborLists
from landmark_retrieval.runtime.sharding import ExecutorConfig
from landmark_retrieval.runtime.store import Store
from landmark_retrieval.verification import (
    MatchingConfig,
    RansacConfig,
    VerificationConfig,
    candidate_pairs,
    pair_keys,
    shards,
    verify_pairs,
)
from landmark_retrieval.verification import pairs as pairs_module
from landmark_retrieval.verification.floors import MIN_INLIERS
from landmark_retrieval.verification.one_pair import pair_seed, verify_pair

CONFIG = VerificationConfig(shard_size=2)


def every_pair(count):
    return np.array([(i, j) for i in range(count) for j in range(i + 1, count)], np.int64)


def verify(root, pairs, features, config=CONFIG, executor=None):
    """Return the table and how many pairs were computed for it."""
    store = Store(str(root))
    table = verify_pairs(pairs, features, store, config, executor)
    return table, store.work[0].computed


@pytest.fixture
def verified(tmp_path, feature_store):
    return verify(tmp_path / "verified", every_pair(8), feature_store)[0]


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
    assert list(verified.columns[:4]) == ["row_a", "row_b", "matches", "inliers"]
    reliable = verified[verified["inliers"] >= CONFIG.floor("aliked")]
    assert set(zip(reliable["row_a"], reliable["row_b"], strict=True)) == {(0, 4), (1, 5), (1, 6), (5, 6)}
    assert CONFIG.floor("aliked") == MIN_INLIERS["aliked"]
    assert (verified.loc[verified["row_b"] == 7, ["matches", "inliers"]] == 0).all(axis=None)
    assert verified[["row_a", "row_b"]].to_numpy().tolist() == every_pair(8).tolist()


def test_homographies_are_in_pixels_of_the_original_images(verified, album, feature_store):
    table, keys = verified.set_index(["row_a", "row_b"]), feature_store.keys
    planted = {(0, 4): HOMOGRAPHIES[0], (1, 5): HOMOGRAPHIES[1], (1, 6): HOMOGRAPHIES[0]}
    assert {bool(keys[a] > keys[b]) for a, b in planted} == {True, False}, "both orders are tried"
    for pair, homography in planted.items():
        found = table.loc[pair].iloc[2:].to_numpy(float).reshape(3, 3)
        points = album[pair[0]].keypoints
        errors = np.linalg.norm(carry(found, points) - carry(homography, points), axis=1)
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
def test_equal_results_from_every_executor(tmp_path, feature_store, verified, backend, workers):
    if backend == "dask":
        pytest.importorskip("distributed")
    executor = ExecutorConfig(backend=backend, workers=workers)
    found, _ = verify(tmp_path / backend, every_pair(8), feature_store, executor=executor)
    assert found.equals(verified)


def test_results_depend_on_neither_order_nor_company(tmp_path, feature_store, verified):
    some = every_pair(8)[::-3]
    found, _ = verify(tmp_path / "other", some, feature_store, VerificationConfig(shard_size=5))
    expected = verified.merge(found[["row_a", "row_b"]])
    assert len(found) == len(some)
    assert found.equals(expected)


def test_matching_on_a_device_with_ransac_in_other_processes_gives_the_same(
    tmp_path, monkeypatch, feature_store, verified
):
    for module in (pairs_module, shards):
        monkeypatch.setattr(module, "matching_device", lambda name: torch.device("cpu"))
    monkeypatch.setattr(pairs_module, "POOL_PAIRS", 20)
    monkeypatch.setattr(shards, "BATCH", 3)
    monkeypatch.setattr(shards, "WAITING", 1)
    executor = ExecutorConfig(backend="loky", workers=2)
    config = VerificationConfig(shard_size=100)
    found, computed = verify(tmp_path / "device", every_pair(8), feature_store, config, executor)
    assert computed == 28 and found.equals(verified)
    assert shards.ransac_pool.cache_info().misses == 1
    shards.ransac_pool.cache_clear()
    few, _ = verify(tmp_path / "few", every_pair(6), feature_store, config, executor)
    assert few.equals(verified.merge(few[["row_a", "row_b"]]))
    assert shards.ransac_pool.cache_info().currsize == 0, "fifteen pairs are not worth a process"


def test_pairs_that_share_photos_stand_together():
    # Forty places of six photos each, in no order: every photo is a pair with the five others of its place.
    photos = np.random.default_rng(0).permutation(240).reshape(40, 6)
    pairs = np.concatenate([np.sort(place[every_pair(6)], axis=1) for place in photos])
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    order = shards.locality_order(pairs)
    assert sorted(order.tolist()) == list(range(600))

    def reads(ordered):
        return sum(len(np.unique(part)) for part in np.array_split(ordered, 10))

    assert reads(pairs[order]) == 240  # four places in each part, every photo once
    assert reads(pairs) > 2 * 240
    assert len(shards.locality_order(np.zeros((0, 2), np.int64))) == 0


def test_a_table_in_another_order_verifies_nothing_again(tmp_path, album, feature_store, verified):
    order = np.random.default_rng(3).permutation(8)
    turned = store_features(tmp_path / "features", [album[i] for i in order], feature_store.keys[order])
    found, computed = verify(tmp_path / "verified", every_pair(8), turned)
    assert computed == 0
    fresh, computed = verify(tmp_path / "fresh", every_pair(8), turned)
    assert computed == 28 and found.equals(fresh)
    names = verified.assign(a=verified["row_a"], b=verified["row_b"])
    for before in names.itertuples():
        a, b = sorted((int(np.flatnonzero(order == before.a)[0]), int(np.flatnonzero(order == before.b)[0])))
        after = found[(found["row_a"] == a) & (found["row_b"] == b)]
        assert (after["matches"].item(), after["inliers"].item()) == (before.matches, before.inliers)


def test_a_photo_more_costs_its_pairs_alone(tmp_path, feature_store, album):
    root = tmp_path / "growing"
    assert verify(root, every_pair(6), feature_store)[1] == 15
    assert verify(root, every_pair(7), feature_store)[1] == 6
    assert verify(root, every_pair(5), feature_store)[1] == 0
    renewed = feature_store.keys.copy()
    renewed[2] = "another photo"
    other = store_features(tmp_path / "features", album, renewed)
    assert verify(root, every_pair(5), other)[1] == 4


def test_only_what_changes_results_changes_the_namespace(tmp_path, feature_store, album):
    root = tmp_path / "verified"
    few = every_pair(3)

    def computed(**options):
        return verify(root, few, feature_store, VerificationConfig(**options))[1]

    assert computed() == 3
    for same in (
        {"min_inliers": 20},
        {"candidates": 3},
        {"shard_size": 9},
        {"matching": MatchingConfig(device="cpu")},
        {"matching": MatchingConfig(ratio=MatchingConfig().resolve("aliked").ratio)},
    ):
        assert computed(**same) == 0
    for other in (
        {"seed": 1},
        {"ransac": RansacConfig(threshold=3)},
        {"ransac": RansacConfig(sought_inliers=5)},
        {"matching": MatchingConfig(ratio=0.9)},
    ):
        assert computed(**other) == 3
        assert computed(**other) == 0
    assert computed() == 0, "going back computes nothing"
    features = store_features(tmp_path / "features", album, extractor="disk")
    assert verify(root, few, features)[1] == 3


def test_the_floor_interprets_and_changes_no_number(tmp_path, feature_store, verified):
    found, _ = verify(tmp_path / "x", every_pair(8), feature_store, VerificationConfig(min_inliers=40))
    assert found.equals(verified)


def test_photos_that_cannot_be_read_have_no_inliers(tmp_path, album, feature_store):
    keys = feature_store.keys.copy()
    keys[4] = ""
    other = store_features(tmp_path / "features", album, keys)
    table, computed = verify(tmp_path / "verified", every_pair(8), other)
    assert computed == 21
    of_it = (table["row_a"] == 4) | (table["row_b"] == 4)
    assert (table.loc[of_it, ["matches", "inliers"]] == 0).all(axis=None)


def test_the_same_photo_twice(tmp_path, album):
    twice = store_features(tmp_path / "features", [album[0], album[0]], np.array(["same", "same"]))
    table, computed = verify(tmp_path / "verified", every_pair(2), twice)
    assert computed == 1 and table["inliers"].item() > 50


def test_no_pairs_at_all(tmp_path, feature_store):
    table, _ = verify(tmp_path / "none", np.zeros((0, 2), np.int64), feature_store)
    assert len(table) == 0 and len(table.columns) == 13


def test_a_row_beyond_the_features_is_named(tmp_path, feature_store):
    with pytest.raises(LandmarkRetrievalError, match="no image row 9, only 8"):
        verify(tmp_path, np.array([[0, 9]]), feature_store)


def test_keys_of_pairs():
    keys, swapped = pair_keys(np.array(["b", "a", "", "c@1,2"]), np.array(["a", "b", "a", "c"]))
    assert keys.tolist() == [b"a b", b"a b", b"", b"c c@1,2"]
    assert swapped.tolist() == [True, False, False, True]


def test_seeds_differ_from_pair_to_pair():
    seeds = {pair_seed(seed, f"{a} {b}") for seed in (0, 1) for a, b in every_pair(40)}
    assert len(seeds) == 2 * 780
    assert all(0 <= seed < 2**31 for seed in seeds)

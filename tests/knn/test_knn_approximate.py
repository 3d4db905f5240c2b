"""Approximate search: how much it finds, and that what it finds is scored and ordered exactly."""

import numpy as np
import pytest
from hypothesis import given, settings
from knn_reference import assert_same, clustered, descriptors, nearest, problems

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.knn import (
    ApproximateConfig,
    KnnConfig,
    gather,
    plan_knn,
    recall_against_exact,
    search,
)
from landmark_retrieval.knn import approximate as module
from landmark_retrieval.runtime.sharding import ShardStore

METHODS = ["ivf", "hnsw"]
INDEX, QUERIES = clustered(1, 3000), clustered(2, 200)


def config(method, k=10, threads=1, storage="float32", memory_gib=4.0, **options):
    return KnnConfig(
        k=k,
        device="cpu",
        threads=threads,
        storage=storage,
        memory_gib=memory_gib,
        shard_rows=64,
        approximate=ApproximateConfig(method=method, **options),
    )


def count_found(found, exact):
    """Return the share of the exact neighbours that are among those found, or equally near."""
    hits = total = 0
    for mine, scores, truth, best in zip(
        found.neighbors, found.weights, exact.neighbors, exact.weights, strict=True
    ):
        wanted = int((truth >= 0).sum())
        total += wanted
        hits += min(wanted, sum(j >= 0 and s >= best[wanted - 1] for j, s in zip(mine, scores, strict=True)))
    return hits / total


@pytest.mark.parametrize("storage", ["float32", "float16"])
@pytest.mark.parametrize("method", METHODS)
def test_finds_almost_everything(method, storage):
    found = search(QUERIES, INDEX, config(method, storage=storage))
    exact = nearest(QUERIES, INDEX, 10, storage=storage)
    assert count_found(found, exact) > 0.97
    overlap = np.mean(
        [len(set(a) & set(b)) / 10 for a, b in zip(found.neighbors, exact.neighbors, strict=True)]
    )
    assert overlap > 0.97


@pytest.mark.parametrize(
    "options", [{"method": "ivf", "lists": 60, "probes": 1}, {"method": "hnsw", "links": 2}]
)
@pytest.mark.parametrize("exclude", [None, np.arange(200)])
def test_recall_equals_a_direct_count(options, exclude):
    options = config(**options)
    recall = recall_against_exact(QUERIES, INDEX, options, exclude)
    found = search(QUERIES, INDEX, options, exclude)
    assert recall == pytest.approx(count_found(found, nearest(QUERIES, INDEX, 10, exclude)), abs=1e-12)
    assert recall < 1, "these options are meant to miss some"


def test_recall_on_a_sample():
    options = config("ivf", lists=60, probes=1)
    recall = recall_against_exact(QUERIES, INDEX, options, sample=20, seed=3)
    drawn = np.sort(np.random.default_rng(3).permutation(200)[:20])
    found, exact = search(QUERIES[drawn], INDEX, options), nearest(QUERIES[drawn], INDEX, 10)
    assert recall == pytest.approx(count_found(found, exact), abs=1e-12)


def test_recall_where_there_is_nothing_to_find():
    assert recall_against_exact(QUERIES, INDEX[:0], config("ivf")) == 1
    assert recall_against_exact(QUERIES, np.zeros((9, 32), np.float32), config("ivf")) == 1
    assert recall_against_exact(QUERIES[:0], INDEX, config("hnsw")) == 1


def test_more_probes_find_more():
    recalls = [recall_against_exact(QUERIES, INDEX, config("ivf", lists=60, probes=p)) for p in (1, 4, 60)]
    assert recalls == sorted(recalls) and recalls[-1] == 1


@settings(max_examples=40, deadline=None)
@given(problems())
def test_all_lists_probed_is_exact_search(problem):
    queries, database, k, exclude = problem
    # Candidates are cut among equal ones, so only as many as asked for make it exact.
    k = max(k, len(database))
    found = search(queries, database, config("ivf", k=k, lists=3, probes=3), exclude)
    assert_same(found, nearest(queries, database, k, exclude))


@pytest.mark.parametrize("method", METHODS)
def test_what_is_found_is_valid(method):
    database = descriptors(5, 700)
    own_rows = np.arange(700)
    found = search(database, database, config(method, k=20), own_rows)
    exact = (database.astype(float) @ database.astype(float).T).astype(np.float32)
    zero = ~database.any(axis=1)
    assert (found.neighbors[zero] == -1).all() and np.isneginf(found.weights[zero]).all()
    for row in np.flatnonzero(~zero):
        neighbors = found.neighbors[row][found.neighbors[row] >= 0]
        assert row not in neighbors and not zero[neighbors].any()
        assert len(set(neighbors)) == len(neighbors) > 0
        assert found.weights[row, : len(neighbors)].tobytes() == exact[row, neighbors].tobytes()
        assert np.isneginf(found.weights[row, len(neighbors) :]).all()
        order = np.lexsort((neighbors, -exact[row, neighbors]))
        assert (order == np.arange(len(order))).all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rows", [1, 2, 9])
def test_fewer_rows_than_k(method, rows):
    found = search(QUERIES, INDEX[:rows], config(method))
    assert_same(found, nearest(QUERIES, INDEX[:rows], 10))


@pytest.mark.parametrize("method", METHODS)
def test_zero_rows_only(method):
    found = search(QUERIES, np.zeros((50, 32), np.float32), config(method))
    assert (found.neighbors == -1).all()


@pytest.mark.parametrize("method", METHODS)
def test_same_bytes_every_time_mapped_or_not_in_parts_or_not(method, tmp_path, monkeypatch):
    np.save(tmp_path / "index.npy", INDEX.astype(np.float16))
    mapped = np.load(tmp_path / "index.npy", mmap_mode="r")
    expected = search(QUERIES, INDEX.astype(np.float16), config(method))
    assert_same(search(QUERIES, mapped, config(method, threads=2)), expected)
    built = []
    real = module.build_index
    module._index_once.cache_clear()
    monkeypatch.setattr(module, "build_index", lambda *given: built.append(1) or real(*given))
    store = ShardStore(str(tmp_path / "store"))
    store.run(plan_knn(QUERIES, mapped, config(method)))
    assert len(store) == 4 and len(built) == 1, "one index serves all parts"
    assert_same(gather(store), expected)


def test_blocks_make_no_difference(monkeypatch):
    expected = search(QUERIES, INDEX, config("ivf"))
    monkeypatch.setattr(module, "BLOCK_BYTES", 50_000)
    assert_same(search(QUERIES, INDEX, config("ivf")), expected)


@pytest.mark.parametrize("method", METHODS)
def test_row_with_nan_is_named(method, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_BYTES", 50_000)
    bad = INDEX.copy()
    bad[1234, 5] = np.nan
    with pytest.raises(LandmarkRetrievalError, match=r"^queries: row 1234 "):
        search(bad, INDEX, config(method, memory_gib=1))
    with pytest.raises(LandmarkRetrievalError, match=r"^database: row 1234 "):
        search(QUERIES, bad, config(method))


def test_index_larger_than_the_memory_is_refused():
    with pytest.raises(
        LandmarkRetrievalError, match=r"knn\.approximate: its index of 3000 images .* search exactly"
    ):
        search(QUERIES, INDEX, config("ivf", memory_gib=0.01))

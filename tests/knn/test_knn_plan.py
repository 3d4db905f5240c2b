"""Searches in resumable parts have the bytes of one search, and only what is missing is computed."""

import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from knn_reference import assert_same, descriptors, nearest

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.knn import (
    ApproximateConfig,
    KnnConfig,
    build_knn_graph,
    gather,
    gather_graph,
    plan_knn,
    plan_knn_graph,
    search,
)
from landmark_retrieval.runtime.sharding import ExecutorConfig, ShardStore

CPU = KnnConfig(k=6, device="cpu", threads=1, shard_rows=30)
QUERIES, INDEX = descriptors(1, 70), descriptors(2, 100)


def changed(**options):
    return KnnConfig(**{**CPU.model_dump(), **options})


def names(plan):
    return [task.file_name for task in plan.tasks]


def times(folder):
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.glob("*.npz")}


def assert_same_graph(found, expected):
    assert_same(found.queries, expected.queries)
    assert_same(found.index, expected.index)


@pytest.mark.parametrize("shard_rows", [1, 30, 70, 1000])
def test_search_in_parts(tmp_path, shard_rows):
    store = ShardStore(str(tmp_path))
    exclude = np.arange(70)
    store.run(plan_knn(QUERIES, INDEX, changed(shard_rows=shard_rows), exclude))
    assert len(store) == -(-70 // shard_rows)
    assert_same(gather(store), search(QUERIES, INDEX, CPU, exclude))
    assert_same(gather(store), nearest(QUERIES, INDEX, 6, exclude))
    assert store.manifest()["metadata"] == {"queries": 70, "database": 100, "k": 6}


def test_graph_in_parts(tmp_path):
    store = ShardStore(str(tmp_path))
    store.run(plan_knn_graph(QUERIES, INDEX, CPU))
    assert len(store) == 3 + 4
    assert_same_graph(gather_graph(store), build_knn_graph(QUERIES, INDEX, CPU))


def test_no_queries(tmp_path):
    store = ShardStore(str(tmp_path))
    store.run(plan_knn(QUERIES[:0], INDEX, CPU))
    assert gather(store).neighbors.shape == (0, 6)


@pytest.mark.parametrize("mapped", [False, True])
def test_worker_processes(tmp_path, mapped):
    queries, index = QUERIES, INDEX
    if mapped:
        for name, matrix in (("queries", queries), ("index", index)):
            np.save(tmp_path / f"{name}.npy", matrix.astype(np.float16))
        queries, index = (np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("queries", "index"))
    store = ShardStore(str(tmp_path / "store"))
    store.run(plan_knn_graph(queries, index, CPU, ExecutorConfig(backend="loky", workers=2)))
    assert_same_graph(gather_graph(store), build_knn_graph(queries, index, CPU))


def test_only_the_deleted_shard_is_computed_again(tmp_path):
    store = ShardStore(str(tmp_path))
    store.run(plan_knn_graph(QUERIES, INDEX, CPU))
    before, expected = times(tmp_path), gather_graph(store)
    lost = store.manifest()["shards"][2]
    (tmp_path / lost).unlink()
    store.run(plan_knn_graph(QUERIES, INDEX, CPU))
    after = times(tmp_path)
    assert {name for name in after if after[name] != before[name]} == {lost}
    assert_same_graph(gather_graph(store), expected)


def test_kill_in_the_middle(tmp_path):
    script = f"""
        import time
        import numpy as np
        from landmark_retrieval.knn import KnnConfig, plan_knn
        from landmark_retrieval.knn import plan as module
        from landmark_retrieval.runtime.sharding import ShardStore

        found = module.search_checked

        def search_slowly(queries, database, config, excluded, label, first, digest):
            result = found(queries, database, config, excluded, label, first, digest)
            time.sleep(0.0 if first == 0 else 60)
            return result

        module.search_checked = search_slowly
        queries, index = (np.load(rf"{tmp_path}/{{name}}.npy") for name in ("queries", "index"))
        ShardStore(r"{tmp_path / "store"}").run(plan_knn(queries, index, KnnConfig(**{CPU.model_dump()!r})))
    """
    np.save(tmp_path / "queries.npy", QUERIES)
    np.save(tmp_path / "index.npy", INDEX)
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "store").glob("*.npz")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait()
    before = times(tmp_path / "store")
    assert len(before) == 1
    store = ShardStore(str(tmp_path / "store"))
    assert not store.exists()
    store.run(plan_knn(QUERIES, INDEX, CPU))
    assert before.items() <= times(tmp_path / "store").items()
    assert_same(gather(store), nearest(QUERIES, INDEX, 6))


def test_fingerprints_follow_the_data():
    before = names(plan_knn_graph(QUERIES, INDEX, CPU))
    assert names(plan_knn_graph(QUERIES.copy(), INDEX.copy(), CPU)) == before
    queries = QUERIES.copy()
    queries[45] *= 2
    after = names(plan_knn_graph(queries, INDEX, CPU))
    assert [a == b for a, b in zip(after, before, strict=True)] == [True, False, True] + [True] * 4
    index = INDEX.copy()
    index[99, 0] += 1
    assert not set(names(plan_knn_graph(QUERIES, index, CPU))) & set(before)
    excluded = np.full(70, -1)
    excluded[0] = 3
    plain, other = names(plan_knn(QUERIES, INDEX, CPU)), names(plan_knn(QUERIES, INDEX, CPU, excluded))
    assert [a == b for a, b in zip(other, plain, strict=True)] == [False, True, True]


@pytest.mark.parametrize(
    ("options", "same"),
    [
        ({"k": 7}, False),
        ({"storage": "float16"}, False),
        ({"approximate": ApproximateConfig()}, False),
        ({"memory_gib": 1.0}, True),
        ({"threads": 2}, True),
        ({"device": "auto"}, True),
    ],
)
def test_fingerprints_follow_what_the_result_depends_on(options, same):
    before, after = (names(plan_knn(QUERIES, INDEX, c)) for c in (CPU, changed(**options)))
    assert [a == b for a, b in zip(before, after, strict=True)] == [same] * 3


def test_mapped_and_in_memory_data_have_the_same_fingerprints(tmp_path):
    np.save(tmp_path / "index.npy", INDEX)
    mapped = np.load(tmp_path / "index.npy", mmap_mode="r")
    assert names(plan_knn(QUERIES, mapped, CPU)) == names(plan_knn(QUERIES, INDEX, CPU))


def test_bad_rows_are_numbered_in_the_whole_matrix(tmp_path):
    queries = QUERIES.copy()
    queries[65, 3] = np.nan
    with pytest.raises(LandmarkRetrievalError, match=r"^queries: row 65 "):
        ShardStore(str(tmp_path)).run(plan_knn(queries, INDEX, CPU))


def test_wrong_inputs_are_refused_before_anything_runs():
    with pytest.raises(LandmarkRetrievalError, match="24 dimensions and the database 23"):
        plan_knn(QUERIES, INDEX[:, :23], CPU)
    with pytest.raises(LandmarkRetrievalError, match="24 dimensions and the database 23"):
        plan_knn_graph(QUERIES, INDEX[:, :23], CPU)


def test_stores_of_something_else_are_refused(tmp_path):
    graph, rows = ShardStore(str(tmp_path / "graph")), ShardStore(str(tmp_path / "rows"))
    graph.run(plan_knn_graph(QUERIES, INDEX, CPU))
    rows.run(plan_knn(QUERIES, INDEX, CPU))
    with pytest.raises(LandmarkRetrievalError, match="graph: holds no search"):
        gather(graph)
    with pytest.raises(LandmarkRetrievalError, match="rows: holds no k-NN graph"):
        gather_graph(rows)
    with pytest.raises(LandmarkRetrievalError, match="nothing: no complete artifact"):
        gather(ShardStore(str(tmp_path / "nothing")))

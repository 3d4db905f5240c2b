"""Exact search against sorting all inner products."""

import logging
import subprocess
import sys
import textwrap
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from knn_reference import assert_same, clustered, descriptors, nearest, problems, unit

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.knn import ApproximateConfig, KnnConfig, build_knn_graph, exact, search
from landmark_retrieval.knn.scoring import rounded_products

PORTION = exact._Portion
CPU = KnnConfig(k=10, device="cpu", threads=1)


def changed(config=CPU, **options):
    return KnnConfig(**{**config.model_dump(), **options})


@settings(max_examples=150, deadline=None)
@given(problems())
def test_equals_reference(problem):
    queries, database, k, exclude = problem
    assert_same(
        search(queries, database, changed(k=k), exclude),
        nearest(queries, database, k, exclude),
    )


@pytest.mark.parametrize("storage", ["float32", "float16"])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
@pytest.mark.parametrize("shape", [(7, 1000, 64), (300, 300, 3), (33, 17, 200)])
def test_equals_reference_for_all_number_types(shape, dtype, storage):
    q, n, dimensions = shape
    queries = descriptors(1, q, dimensions).astype(dtype)
    database = descriptors(2, n, dimensions).astype(dtype)
    # float64 is rounded to float32 as well
    rounded = [m.astype(np.float32) for m in (queries, database)]
    assert_same(
        search(queries, database, changed(storage=storage)),
        nearest(*rounded, 10, storage=storage),
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(
    ("tile", "memory_gib", "parts"),
    [((7, 50), 0.0012, 3), ((7, 50), 1.0, 1), ((64, 512), 1.0, 1), ((4000, 4000), 1.0, 1)],
)
def test_blocks_and_threads_change_no_byte(monkeypatch, tmp_path, dtype, tile, memory_gib, parts):
    np.save(tmp_path / "matrix.npy", descriptors(3, 1000, 256).astype(dtype))
    database = np.load(tmp_path / "matrix.npy", mmap_mode="r")
    own_rows = np.arange(1000)
    expected = nearest(database, database, 10, own_rows)
    monkeypatch.setitem(exact.TILES, "cpu", (tile,))
    monkeypatch.setattr(exact, "OVERHEAD", 0)
    read = []
    monkeypatch.setattr(exact, "_Portion", lambda *a: read.append(a) or PORTION(*a))
    for threads in (1, 3):
        config = changed(memory_gib=memory_gib, threads=threads)
        assert_same(search(database, database, config, own_rows), expected)
    assert len(read) >= 2 * parts, "little memory is meant to need several portions of the database"


@pytest.mark.parametrize("k", [5, 40])
def test_more_equal_rows_than_candidates_are_searched_again(k):
    random = np.random.default_rng(0)
    one = unit(random.normal(size=(1, 16)))
    cases = {
        "all rows equal": np.repeat(one, 700, axis=0),
        "500 copies of one row": np.concatenate(
            [unit(random.normal(size=(150, 16))), np.repeat(one, 500, axis=0)]
        ),
        "last bit of float16": np.nextafter(
            np.repeat(one, 600, axis=0).astype(np.float16),
            random.choice(np.array([-9, 9], np.float16), (600, 16)),
        ),
    }
    for database in cases.values():
        shuffled = database[random.permutation(len(database))]
        queries = np.concatenate([shuffled[:9], one.astype(shuffled.dtype)])
        exclude = np.append(np.arange(9), -1)
        found = search(queries, shuffled, changed(k=k), exclude)
        assert_same(found, nearest(queries, shuffled, k, exclude))


def test_unproven_queries_take_more_candidates(monkeypatch):
    database = np.repeat(descriptors(20, 10), 60, axis=0)
    widths = []
    once = exact._search_once
    monkeypatch.setattr(
        exact, "_search_once", lambda problem, count: widths.append(count) or once(problem, count)
    )
    assert_same(search(database[::60], database, CPU), nearest(database[::60], database, 10))
    assert widths[0] == 10 + exact.SLACK and widths[1] == widths[0] * exact.MORE


@pytest.mark.parametrize("mapped", [False, True])
def test_copies_of_one_row_fit_a_memory_that_searches_them_piece_by_piece(tmp_path, mapped):
    rows = np.tile(descriptors(9, 20, 64)[3].astype(np.float16), (60_000, 1))
    np.save(tmp_path / "rows.npy", rows)
    database = np.load(tmp_path / "rows.npy", mmap_mode="r") if mapped else rows
    found = search(rows[:40], database, changed(memory_gib=0.06), np.arange(40))
    expected = [[row for row in range(11) if row != own][:10] for own in range(40)]
    np.testing.assert_array_equal(found.neighbors, expected)


@pytest.mark.parametrize("scale", [1e-10, 3e-23, 1e-25])
@pytest.mark.parametrize("scaled", ["database", "queries", "both"])
def test_descriptors_whose_squares_are_too_small_are_proven_as_well(scale, scaled):
    random = np.random.default_rng(4)
    direction = random.normal(size=64)
    database = unit(direction + 1e-6 * random.normal(size=(3000, 64)))
    queries = unit(direction + 0.5 * random.normal(size=(20, 64)))
    if scaled != "queries":
        database *= np.float32(scale)
    if scaled != "database":
        queries *= np.float32(scale)
    assert_same(search(queries, database, CPU), nearest(queries, database, 10))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@pytest.mark.parametrize("storage", ["float32", "float16"])
@pytest.mark.parametrize("memory_gib", [4.0, 0.05])
def test_gpu_gives_the_bytes_of_the_cpu(storage, memory_gib):
    database = clustered(1, 30_000, 96)
    queries = database[:3000]
    options = {"storage": storage, "k": 50}
    expected = search(queries, database, changed(**options), np.arange(3000))
    found = search(
        queries, database, changed(device="gpu", memory_gib=memory_gib, **options), np.arange(3000)
    )
    assert_same(found, expected)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 300), st.sampled_from([1e-3, 1.0, 1e3]))
def test_products_are_rounded_correctly(seed, dimensions, magnitude):
    random = np.random.default_rng(seed)
    a = (random.normal(size=(20, dimensions)) * magnitude).astype(np.float32)
    b = random.normal(size=(20, dimensions)).astype(np.float32)
    b[:5] -= (b[:5] * a[:5]).sum(axis=1, keepdims=True) * a[:5] / (a[:5] ** 2).sum(axis=1, keepdims=True)
    exactly = [
        float(sum(Fraction(x) * Fraction(y) for x, y in zip(*rows, strict=True)))
        for rows in zip(a.astype(float).tolist(), b.astype(float).tolist(), strict=True)
    ]
    assert rounded_products(a, b).tolist() == np.array(exactly, np.float32).tolist()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_memory_mapped_files(tmp_path, dtype):
    matrix = descriptors(4, 900, 32).astype(dtype)
    np.save(tmp_path / "matrix.npy", matrix)
    mapped = np.load(tmp_path / "matrix.npy", mmap_mode="r")
    expected = nearest(matrix[100:200], matrix, 10)
    assert_same(search(mapped[100:200], mapped, CPU), expected)
    assert_same(search(np.asarray(mapped)[100:200], np.asarray(mapped), CPU), expected)
    assert mapped.tobytes() == matrix.tobytes()


def test_unusual_layouts_and_read_only_arrays(recwarn):
    matrix = descriptors(5, 400, 16)
    expected = nearest(matrix, matrix, 10)
    read_only = matrix.copy()
    read_only.flags.writeable = False
    wide = np.zeros((400, 32), np.float32)
    wide[:, ::2] = matrix
    for given_as in (read_only, np.asfortranarray(matrix), wide[:, ::2], matrix.astype(">f4")):
        assert_same(search(given_as, given_as, CPU), expected)
    assert not recwarn.list


def test_self_is_excluded_even_among_its_duplicates():
    database = np.repeat(descriptors(6, 30, 8)[:30], 5, axis=0)
    own_rows = np.arange(len(database))
    found = search(database, database, changed(k=4), own_rows)
    assert not (found.neighbors == own_rows[:, None]).any()
    present = database.any(axis=1)
    group = own_rows // 5
    same = database[found.neighbors[present]] == database[present][:, None]
    assert same.all(), "the four copies are nearest"
    for row in own_rows[present]:
        copies = found.neighbors[row]
        assert (np.diff(copies) > 0).all()
        if (database[group[row] * 5] == database).all(axis=1).sum() == 5:
            assert set(copies) == set(range(group[row] * 5, group[row] * 5 + 5)) - {row}


def test_zero_rows_are_never_found_and_find_nothing():
    database = descriptors(7, 60, 8)
    database[[0, 7, 59]] = 0
    queries = -database[:20]  # most products are negative: zero would be better
    found = search(queries, database, changed(k=60))
    empty = np.flatnonzero(~database.any(axis=1))
    assert not np.isin(found.neighbors, empty).any()
    assert (found.neighbors[[0, 7]] == -1).all() and np.isneginf(found.weights[[0, 7]]).all()
    assert_same(found, nearest(queries, database, 60))


def test_database_of_zero_rows_only():
    found = search(descriptors(8, 5), np.zeros((70, 24), np.float32), CPU)
    assert (found.neighbors == -1).all() and np.isneginf(found.weights).all()


@pytest.mark.parametrize(("q", "n"), [(0, 5), (5, 0), (0, 0)])
@pytest.mark.parametrize("approximate", [None, ApproximateConfig()])
def test_nothing_to_search(q, n, approximate):
    found = search(np.ones((q, 3), np.float32), np.ones((n, 3), np.float32), changed(approximate=approximate))
    assert found.neighbors.shape == (q, 10) and found.neighbors.dtype == np.int32
    assert found.weights.shape == (q, 10) and found.weights.dtype == np.float32
    assert (found.neighbors == -1).all()
    assert len(found) == q


def test_fewer_rows_than_k_are_padded_without_a_word(caplog):
    database = descriptors(9, 6)
    database[2] = 0
    with caplog.at_level(logging.WARNING):
        found = search(database, database, CPU, np.arange(6))
    assert_same(found, nearest(database, database, 10, np.arange(6)))
    assert (found.neighbors[:, 5:] == -1).all() and np.isneginf(found.weights[:, 5:]).all()
    assert not caplog.records


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_row_with_nan_is_named(value):
    bad = descriptors(10, 900)
    bad[[437, 800], 3] = value
    good = descriptors(11, 20)
    with pytest.raises(
        LandmarkRetrievalError, match=r"^database: row 437 holds NaN, infinite or huge numbers"
    ):
        search(good, bad, CPU)
    with pytest.raises(LandmarkRetrievalError, match=r"^queries: row 437 "):
        search(bad, good, CPU)


def test_row_too_large_for_float16_is_named():
    bad = descriptors(10, 50)
    bad[44, 3] = 70_000
    with pytest.raises(LandmarkRetrievalError, match=r"^database: row 44 "):
        search(bad[:5], bad, changed(storage="float16"))
    assert search(bad[:5], bad, CPU).neighbors.shape == (5, 10)


@pytest.mark.parametrize(
    ("queries", "database", "message"),
    [
        (np.ones((3, 4), np.float32), np.ones((3, 5), np.float32), "4 dimensions and the database 5"),
        (np.ones(4, np.float32), np.ones((3, 4), np.float32), r"queries: shape \(4,\)"),
        (np.ones((3, 4), np.float32), np.ones((3, 4), np.int64), "database: .* of int64"),
        (np.ones((3, 0), np.float32), np.ones((3, 0), np.float32), r"queries: shape \(3, 0\)"),
    ],
)
def test_what_are_no_descriptors_is_refused(queries, database, message):
    with pytest.raises(LandmarkRetrievalError, match=message):
        search(queries, database, CPU)


@pytest.mark.parametrize(
    ("exclude", "message"),
    [
        (np.arange(3), r"shape \(3,\) for 4 queries"),
        (np.array([0, 1, 2, 9]), "row 9"),
        (np.array([0, 1, -2, 3]), "-2"),
    ],
)
def test_wrong_excluded_rows_are_refused(exclude, message):
    with pytest.raises(LandmarkRetrievalError, match=message):
        search(np.ones((4, 2), np.float32), np.ones((9, 2), np.float32), CPU, exclude)


def test_too_little_memory_says_how_much_is_needed():
    with pytest.raises(LandmarkRetrievalError, match=r"memory_gib = 0.001 is not enough .* at least 0\.\d+"):
        search(descriptors(1, 50), descriptors(2, 5000), changed(memory_gib=0.001))


def test_graph_is_two_searches():
    queries, index = descriptors(12, 40), descriptors(13, 200)
    graph = build_knn_graph(queries, index, CPU)
    assert_same(graph.queries, nearest(queries, index, 10))
    own = nearest(index, index, 10, np.arange(200))
    assert_same(graph.index, own)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows * np.where(np.arange(len(rows)) == 7, 2, 1)[:, None], "row 7 has length 2, not 1"),
        (lambda rows: rows[0], "not descriptors"),
        (lambda rows: rows[:, :-1], "dimensions"),
        (lambda rows: rows.astype(int), "not descriptors"),
    ],
)
def test_graphs_are_of_descriptors_of_unit_length(change, message):
    queries, index = descriptors(12, 40), descriptors(13, 200)
    with pytest.raises(ValueError, match=message):
        build_knn_graph(change(queries), index, CPU)
    with pytest.raises(ValueError, match=message):
        build_knn_graph(queries, change(index), CPU)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is reset by Linux only")
def test_memory_is_obeyed_by_a_larger_file(tmp_path):
    rows, dimensions, gib = 60_000, 1024, 0.06
    mapped = np.lib.format.open_memmap(tmp_path / "index.npy", "w+", np.float16, (rows, dimensions))
    some = np.random.default_rng(0).normal(size=(1000, dimensions)).astype(np.float16)
    for start in range(0, rows, 1000):
        mapped[start : start + 1000] = np.roll(some, start // 1000, axis=1)
    mapped.flush()
    assert mapped.nbytes > 1.8 * gib * 2**30
    script = f"""
        import re, numpy as np
        from pathlib import Path
        from landmark_retrieval.knn import KnnConfig, search

        def memory(name):
            status = Path("/proc/self/status").read_text()
            return int(re.search(name + r":\\s+(\\d+) kB", status)[1]) / 2**20

        config = KnnConfig(k=5, device="cpu", threads=2, memory_gib={gib})
        warm = np.ones((600, {dimensions}), np.float16)
        search(warm, warm, config)
        matrix = np.load(r"{tmp_path / "index.npy"}", mmap_mode="r")
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak of importing
        before = memory("VmRSS")
        found = search(matrix[40_000:40_064], matrix, config)
        assert (found.neighbors[:, 0] == np.arange(40_000, 40_064)).all()
        print(memory("VmHWM") - before)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True
    )
    assert 0.3 * gib < float(run.stdout) < gib

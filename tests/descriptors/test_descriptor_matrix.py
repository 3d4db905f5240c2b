from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landmark_retrieval.descriptors import matrix as matrix_module
from landmark_retrieval.descriptors.matrix import (
    BlendConfig,
    BlockArray,
    Descriptors,
    blend,
    check_ids,
    gather_results,
    join_rows,
    make_blocks,
    map_blocks,
    normalize_rows,
    take_rows,
)
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.runtime.store import Request, Store


def unit(n, d, seed=0):
    return normalize_rows(np.random.default_rng(seed).normal(size=(n, d)))


def ids(n):
    return np.array([f"id{i}" for i in range(n)])


def blocks_of(x, *cuts):
    return BlockArray(x.shape, x.dtype, np.split(x, cuts))


def test_block_array_is_its_blocks_and_can_be_read_again():
    x = unit(10, 3)
    array = blocks_of(x, 2, 7)
    for _ in range(2):
        np.testing.assert_array_equal(np.asarray(array), x)
    assert len(array) == 10
    assert np.asarray(array, dtype=np.float64).dtype == np.float64


@pytest.mark.parametrize("shape", [(9, 3), (11, 3), (10, 4)])
def test_blocks_that_do_not_fit_their_shape_are_refused(shape):
    with pytest.raises(LandmarkRetrievalError):
        list(BlockArray(shape, np.dtype(np.float32), [unit(10, 3)]))


@settings(max_examples=40, deadline=None)
@given(st.sets(st.integers(0, 19)), st.integers(1, 19))
def test_rows_are_taken_from_blocks_as_from_arrays(rows, cut):
    x = unit(20, 2)
    wanted = np.array(sorted(rows), dtype=np.int64)
    np.testing.assert_array_equal(take_rows(blocks_of(x, cut), wanted), x[wanted])
    np.testing.assert_array_equal(take_rows(x, wanted), x[wanted])


def test_blend_adds_weighted_inner_products(monkeypatch):
    monkeypatch.setattr(matrix_module, "BLOCK_ROWS", 4)
    a, b = unit(10, 3, 1), unit(10, 5, 2)
    for part_a, part_b in ((a, b), (blocks_of(a, 3), b), (blocks_of(a, 1, 9), blocks_of(b, 5))):
        blended = blend(
            [Descriptors(ids(10), part_a), Descriptors(ids(10), part_b)], BlendConfig(weights=(3.0, 1.0))
        )
        x = np.asarray(blended.matrix)
        np.testing.assert_allclose(x @ x.T, 0.75 * a @ a.T + 0.25 * b @ b.T, atol=1e-6)


def test_blend_keeps_what_one_part_knows():
    a, b = unit(4, 3, 1), unit(4, 5, 2)
    a[1] = 0
    a[2] = b[2] = 0
    x = np.asarray(blend([Descriptors(ids(4), a), Descriptors(ids(4), b)]).matrix)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), [1, 1, 0, 1], atol=1e-6)
    np.testing.assert_allclose(x[1, 3:], b[1], atol=1e-6)


def test_blend_can_be_stored_small():
    a = Descriptors(ids(4), unit(4, 3))
    small = blend([a, a], BlendConfig(storage="float16")).matrix
    assert small.dtype == np.float16
    np.testing.assert_allclose(np.asarray(small), np.asarray(blend([a, a]).matrix), atol=1e-3)


@pytest.mark.parametrize("weights", [(1.0,), (1.0, -1.0), (0.0, 0.0)])
def test_blend_weights_must_fit(weights):
    a = Descriptors(ids(2), unit(2, 3))
    with pytest.raises(LandmarkRetrievalError, match="weights"):
        blend([a, a], BlendConfig(weights=weights))
    with pytest.raises(LandmarkRetrievalError, match="no descriptors"):
        blend([])


def test_other_images_are_refused_by_name():
    table = pd.DataFrame({"image_id": ["id0", "id1", "idX"]})
    with pytest.raises(LandmarkRetrievalError, match="row 2 is 'id2' there but 'idX'"):
        check_ids(Descriptors(ids(3), unit(3, 2)), table)
    with pytest.raises(LandmarkRetrievalError, match="2 rows there but 3"):
        check_ids(Descriptors(ids(2), unit(2, 2)), table)
    check_ids(Descriptors(ids(3), unit(3, 2)), pd.DataFrame({"image_id": ids(3)}))
    with pytest.raises(LandmarkRetrievalError, match="row 1"):
        blend([Descriptors(ids(2), unit(2, 2)), Descriptors(np.array(["id0", "b"]), unit(2, 2))])


def test_ids_and_rows_must_agree():
    with pytest.raises(LandmarkRetrievalError, match="3 ids but 2 rows"):
        Descriptors(ids(3), unit(2, 2))


def test_results_become_one_matrix_in_the_order_of_the_table(tmp_path, monkeypatch):
    x, keys = unit(7, 3), np.array([f"{n:x}" for n in range(7)])
    namespace = Store(str(tmp_path)).namespace("numbers", {})
    request = Request("numbers", "photo", lambda rows: partial(_rows, x[rows]), 2)
    namespace.fill(keys, request)
    monkeypatch.setattr(matrix_module, "BLOCK_ROWS", 4)
    for order in ([0, 1, 2, 3, 4, 5, 6], [6, 2, 2, 0, 5], [3]):
        gathered = gather_results(namespace.look(keys[order]).places, "descriptors", 3)
        assert gathered.shape == (len(order), 3)
        np.testing.assert_array_equal(np.asarray(gathered), x[order])
    asked = np.array(["", "5", "none", "", "", "", "0"])
    some = np.asarray(gather_results(namespace.look(asked).places, "descriptors", 3))
    np.testing.assert_array_equal(some[[1, 6]], x[[5, 0]])
    assert not some[[0, 2, 3, 4, 5]].any()


@pytest.mark.parametrize("root", ["{tmp}", "memory://gathered/{tmp}"])
def test_long_and_short_runs_of_results_are_gathered_alike(tmp_path, root):
    x, keys = unit(900, 3), np.array([f"{n:x}" for n in range(900)])
    namespace = Store(root.format(tmp=tmp_path)).namespace("numbers", {})
    namespace.fill(keys, Request("numbers", "photo", lambda rows: partial(_rows, x[rows]), 200))
    random = np.random.default_rng(0)
    scattered = random.permutation(900)[:300]
    order = np.concatenate(
        [np.arange(150, 420), scattered, [5, 6, 7], np.arange(899, 500, -1), np.arange(99)]
    )
    asked = keys[order]
    asked[[0, 300, 700]] = ["none", "", "missing"]
    places = namespace.look(asked).places
    gathered = gather_results(places, "descriptors", 3)
    expected = x[order]
    expected[[0, 300, 700]] = 0
    np.testing.assert_array_equal(np.asarray(gathered), expected)
    np.testing.assert_array_equal(np.concatenate(list(gathered.blocks)), expected)
    assert [rows.start for rows in places.runs(128)][:4] == [0, 50, 178, 250]
    assert max(rows.stop - rows.start for rows in places.runs(128)) == 128


def _rows(x):
    return {"descriptors": x}


def test_map_blocks_is_lazy():
    calls = []

    def double(block):
        calls.append(len(block))
        return 2 * block

    x = unit(6, 2)
    lazy = map_blocks(double, blocks_of(x, 4), 2)
    assert not calls
    np.testing.assert_allclose(np.asarray(lazy), 2 * x)
    assert calls == [4, 2]


def test_made_blocks_are_lazy_and_end_with_the_rows():
    calls = []

    def make(rows):
        calls.append((rows.start, rows.stop))
        return x[rows]

    x = unit(7, 2)
    lazy = make_blocks(make, x.shape, np.float16, 3)
    assert not calls
    for _ in range(2):
        assert np.asarray(lazy).tobytes() == x.astype(np.float16).tobytes()
    assert calls == 2 * [(0, 3), (3, 6), (6, 7)]
    assert np.asarray(make_blocks(make, (0, 2))).shape == (0, 2)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=4))
def test_joined_rows_are_concatenated_rows(parts):
    matrices = [unit(n, 3, seed) for seed, (n, _) in enumerate(parts)]
    given_parts = [
        blocks_of(x, n // 2) if blocks else x for x, (n, blocks) in zip(matrices, parts, strict=True)
    ]
    joined = join_rows(given_parts)
    for _ in range(2):
        np.testing.assert_array_equal(np.asarray(joined), np.concatenate(matrices))


def test_joined_rows_take_the_type_of_the_first():
    joined = join_rows([unit(2, 3).astype(np.float16), unit(4, 3)])
    assert joined.dtype == np.float16 and {block.dtype for block in joined} == {np.dtype(np.float16)}


def test_rows_that_are_not_finite_count_as_none():
    x = np.array([[3.0, 4.0], [np.nan, 1.0], [np.inf, 1.0], [0.0, 0.0]])
    np.testing.assert_allclose(normalize_rows(x), [[0.6, 0.8], [0, 0], [0, 0], [0, 0]], atol=1e-7)

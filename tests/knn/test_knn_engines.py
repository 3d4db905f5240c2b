"""Every engine returns the same bytes, leaves the process as it was, and stays within its error bound."""

import faiss
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from knn_reference import assert_same, descriptors, nearest, problems

from landmark_retrieval.knn import KnnConfig, NeighborLists, search
from landmark_retrieval.knn.blocks import Reader
from landmark_retrieval.knn.candidates import candidate_count
from landmark_retrieval.knn.engines import (
    Best,
    BlasEngine,
    error_bound,
)

ENGINES = ["blas", "torch", "faiss"]
NEED_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def config(engine, **options):
    return KnnConfig(**{"k": 10, "device": "cpu", "engine": engine, "threads": 1, **options})


@pytest.mark.parametrize("engine", ["torch", "faiss"])
@settings(max_examples=60, deadline=None)
@given(problem=problems())
def test_equals_reference(engine, problem):
    queries, database, k, exclude = problem
    assert_same(
        search(queries, database, config(engine, k=k), exclude),
        nearest(queries, database, k, exclude),
    )


@pytest.mark.parametrize("storage", ["float32", "float16"])
@pytest.mark.parametrize("seed", [1, 2])
def test_same_bytes(seed, storage):
    database = descriptors(seed, 2500, 96)
    found = [
        search(database[:600], database, config(engine, storage=storage, memory_gib=gib), np.arange(600))
        for engine in ENGINES
        for gib in (0.05, 1)
    ]
    for other in found[1:]:
        assert_same(other, found[0])
    assert_same(found[0], nearest(database[:600], database, 10, np.arange(600), storage))


@pytest.mark.parametrize("engine", ENGINES)
def test_more_duplicates_than_candidates(engine):
    database = np.tile(descriptors(3, 4, 16)[:4] + 0.5, (200, 1))
    assert candidate_count(10) < 200
    found = search(database, database, config(engine), np.arange(800))
    assert_same(found, nearest(database, database, 10, np.arange(800)))


@NEED_GPU
@pytest.mark.parametrize("engine", ["torch", "faiss"])
@pytest.mark.parametrize("storage", ["float32", "float16"])
def test_gpu_gives_the_bytes_of_the_cpu(engine, storage):
    database = descriptors(4, 20_000, 128)
    if engine == "faiss" and not faiss.get_num_gpus():
        pytest.skip("FAISS without GPU")
    expected = search(database, database, config("blas", storage=storage, threads=0), np.arange(20_000))
    for gib in (0.3, 4):
        options = {"device": "gpu", "storage": storage, "memory_gib": gib, "threads": 0}
        assert_same(search(database, database, config(engine, **options), np.arange(20_000)), expected)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 600), st.floats(-6, 6))
def test_bound_holds_for_rounded_products(seed, dimensions, magnitude):
    random = np.random.default_rng(seed)
    queries, database = (
        (random.normal(size=(20, dimensions)) * 10**magnitude).astype(np.float32) for _ in range(2)
    )
    queries[3] = 0
    blocks = [Reader(m, "rows", "float32", 1).read(0, 20) for m in (queries, database)]
    bound = error_bound(*blocks)
    assert bound[3] < 0 and (np.delete(bound, 3) > 0).all()
    exact = queries.astype(float) @ database.astype(float).T
    for rounded in (queries @ database.T, torch.mm(*map(torch.from_numpy, (queries, database.T))).numpy()):
        errors = np.abs(rounded - exact).max(axis=1)
        assert (np.delete(errors, 3) <= np.delete(bound, 3)).all()
    assert (error_bound(*blocks, 4.0)[:3] > bound[:3]).all()


def test_heaps_and_their_parts():
    best = Best.empty(3, 2)
    part = best.part(1, 3)
    part.scores[0], part.rows[0] = [1, 5], [7, 8]
    expected = NeighborLists(
        np.array([[-1, -1], [8, 7], [-1, -1]], np.int32),
        np.array([[-np.inf, -np.inf], [5, 1], [-np.inf, -np.inf]], np.float32),
    )
    assert_same(best.sorted(1), expected)


def test_blas_engine_merges_block_after_block():
    database = descriptors(5, 300, 8)
    engine = BlasEngine(tile=64, queries=40, threads=1)
    reader = Reader(database, "database", "float32", 1)
    queries = Reader(database, "queries", "float32", 1).read(0, 40)
    best = Best.empty(40, 10)
    for start in (200, 100, 0):  # in any order
        engine.load(reader.read(start, start + 100, drop_empty=True))
        engine.update(queries, np.arange(40), best)
    assert_same(best.sorted(1), nearest(database[:40], database, 10, np.arange(40)))

"""Query expansion against a slow loop; unchanged rows are unchanged bit for bit."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.knn import KnnGraph, NeighborLists
from landmark_retrieval.retrieval import stages
from landmark_retrieval.retrieval.stages import Verified
from landmark_retrieval.verification import ExpansionConfig, expand


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def case(seed, count=12, index=15, k=6, c=4):
    random = np.random.default_rng(seed)
    neighbors = np.stack([random.permutation(index)[:k] for _ in range(count)]).astype(np.int32)
    neighbors[random.random(neighbors.shape) < 0.1] = -1
    inliers = random.integers(-1, 25, (count, c)).astype(np.int32)
    inliers[neighbors[:, :c] < 0] = -1
    weights = -np.sort(-random.uniform(-0.2, 1, (count, k)).astype(np.float32), axis=1)
    weights[neighbors < 0] = -np.inf
    return (
        unit(random.normal(size=(count, 8))),
        unit(random.normal(size=(index, 8))),
        neighbors,
        weights,
        inliers,
    )


def reference(descriptors, index, neighbors, weights, inliers, config, floor):
    rows = []
    for i, descriptor in enumerate(descriptors):
        reliable = [c for c in range(inliers.shape[1]) if inliers[i, c] >= max(floor, 1)]
        reliable = sorted(reliable, key=lambda c: (-inliers[i, c], c))[: config.images]
        if config.selection == "nearest":
            skipped = [c < inliers.shape[1] and inliers[i, c] < 0 for c in range(neighbors.shape[1])]
            there = [c for c, skip in enumerate(skipped) if neighbors[i, c] >= 0 and not skip]
            reliable = there[: config.images]
        total = descriptor.astype(np.float64)
        for rank, c in enumerate(reliable):
            factor = {
                "average": 1.0,
                "alpha": max(float(weights[i, c]), 0.0) ** config.alpha,
                "rank": 1 - rank / config.images,
                "inlier_weighted": None
                if config.selection == "nearest"
                else inliers[i, c] / (inliers[i, c] + max(floor, 1)),
            }[config.method]
            total = total + factor * index[neighbors[i, c]]
        rows.append(total / np.linalg.norm(total) if reliable else descriptor)
    return np.array(rows)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from(
        [
            ("verified", "average"),
            ("verified", "alpha"),
            ("verified", "rank"),
            ("verified", "inlier_weighted"),
            ("nearest", "average"),
            ("nearest", "alpha"),
            ("nearest", "rank"),
        ]
    ),
    st.integers(0, 7),
    st.integers(0, 26),
)
def test_equals_a_slow_loop(seed, kind, images, floor):
    data = case(seed)
    config = ExpansionConfig(images=images, selection=kind[0], method=kind[1])
    result = expanded(*data, config, floor)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, reference(*data, config, floor), atol=1e-6)
    unreliable = ~(data[4] >= max(floor, 1)).any(axis=1) if kind[0] == "verified" else np.full(12, not images)
    assert result[unreliable].tobytes() == data[0][unreliable].tobytes()


def expanded(descriptors, index, neighbors, weights, inliers, config, floor):
    return expand(descriptors, index, NeighborLists(neighbors, weights), inliers, config, floor)


def both_sides(queries, index, graph, verified, config, dtype=np.float32):
    """Return the expanded queries and index, as a run makes them."""
    return (
        stages.expand(queries, index, graph.queries, verified, config, dtype=dtype),
        stages.expand(index, index, graph.index, verified, config, of_index=True, dtype=dtype),
    )


def graph_case(dtype=np.float32):
    queries, index, query_neighbors, query_weights, _ = case(3)
    _, _, index_neighbors, index_weights, _ = case(7, count=15)
    pairs = [(a, b) for a in range(27) for b in range(a + 1, 27)]
    inliers = np.random.default_rng(1).integers(0, 30, len(pairs)).astype(np.int32)
    verified = pd.DataFrame(pairs, columns=["row_a", "row_b"]).assign(inliers=inliers)
    graph = KnnGraph(
        NeighborLists(query_neighbors, query_weights), NeighborLists(index_neighbors, index_weights)
    )
    config = ExpansionConfig(images=3, method="inlier_weighted")
    return (
        queries.astype(dtype),
        index.astype(dtype),
        graph,
        Verified(verified, len(queries), 4, (12, 12)),
        config,
    )


@pytest.mark.parametrize("block", [1, 2, 15, 1024])
def test_blocks_change_nothing(monkeypatch, block):
    data = graph_case()
    whole = [np.asarray(side) for side in both_sides(*data)]
    monkeypatch.setattr(stages, "BLOCK", block)
    lazy = both_sides(*data)
    assert [len(rows) for rows in lazy[1]] == [min(block, 15 - first) for first in range(0, 15, block)]
    for some, all_of_them, before in zip(lazy, whole, data[:2], strict=True):
        assert np.asarray(some).tobytes() == all_of_them.tobytes() != before.tobytes()


def test_half_precision_is_rounded_once_at_the_end():
    data = graph_case(np.float16)
    whole = [np.asarray(side) for side in both_sides(*data)]
    for some, exact in zip(both_sides(*data, dtype=np.float16), whole, strict=True):
        assert some.dtype == np.float16 and exact.dtype == np.float32
        assert np.asarray(some).tobytes() == exact.astype(np.float16).tobytes()


def test_without_a_reliable_image_nothing_changes():
    data = case(4)
    result = expanded(*data, ExpansionConfig(), 1000)
    assert result.tobytes() == data[0].tobytes() and result is not data[0]


def test_memory_mapped_half_precision_index_is_read(tmp_path):
    descriptors, index, neighbors, weights, inliers = case(5)
    np.save(tmp_path / "index.npy", index.astype(np.float16))
    mapped = np.load(tmp_path / "index.npy", mmap_mode="r")
    result = expanded(descriptors, mapped, neighbors, weights, inliers, ExpansionConfig(), 5)
    np.testing.assert_allclose(
        result, expanded(descriptors, index, neighbors, weights, inliers, ExpansionConfig(), 5), atol=1e-3
    )


def two_sides(database_side, **options):
    queries = unit(np.array([[1.0, 0, 0, 0]]))
    index = unit(np.array([[0, 1.0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))
    verified = pd.DataFrame({"row_a": [0, 1, 2], "row_b": [1, 2, 3], "inliers": [30, 20, 10]})
    query_neighbors = np.array([[0, 1, 2]], np.int32)
    # Index image 0 lists itself first, as a search without exclusion would return it.
    index_neighbors = np.array([[0, 1, 2], [0, 2, -1], [1, 0, -1]], np.int32)
    weights = np.array([[0.9, 0.5, 0.1]] * 3, np.float32)
    graph = KnnGraph(NeighborLists(query_neighbors, weights[:1]), NeighborLists(index_neighbors, weights))
    config = ExpansionConfig(database_side=database_side, **options)
    sides = both_sides(queries, index, graph, Verified(verified, 1, 3, (15, 15)), config)
    return queries, index, tuple(map(np.asarray, sides))


def test_both_sides_use_the_index_as_it_was():
    _, index, (new_queries, new_index) = two_sides(True)
    np.testing.assert_allclose(new_queries[0], [2**-0.5, 2**-0.5, 0, 0], atol=1e-6)
    np.testing.assert_allclose(new_index[0], [0, 2**-0.5, 2**-0.5, 0], atol=1e-6)
    np.testing.assert_allclose(new_index[1], [0, 2**-0.5, 2**-0.5, 0], atol=1e-6)
    assert new_index[2].tobytes() == index[2].tobytes()


def test_an_image_is_never_expanded_by_itself():
    new_index = two_sides(True, images=3)[2][1]
    # With itself counted twice the two components would differ.
    assert new_index[0, 1] == pytest.approx(new_index[0, 2])
    assert new_index[0, 3] == 0


def test_query_side_can_be_left_out():
    queries, index, (new_queries, new_index) = two_sides(True, query_side=False)
    assert new_queries.tobytes() == queries.tobytes()
    assert new_index.tobytes() != index.tobytes()


def test_an_image_is_not_its_own_nearest_neighbour():
    new_index = two_sides(True, images=2, selection="nearest")[2][1]
    # Index image 0 lists itself, 1 and 2: the last two are averaged with it.
    np.testing.assert_allclose(new_index[0], np.array([0, 1, 1, 1]) / 3**0.5, atol=1e-6)


def test_inlier_weights_need_verified_images():
    with pytest.raises(LandmarkRetrievalError, match=r"set selection to 'verified'"):
        ExpansionConfig(method="inlier_weighted", selection="nearest")


def test_database_side_can_be_left_out():
    _, index, (new_queries, new_index) = two_sides(False)
    assert new_index.tobytes() == index.tobytes()
    assert new_queries[0, 1] > 0

"""Nearest neighbours by sorting all inner products in float64, and the data to try them on."""

import numpy as np
from hypothesis import strategies as st

from landmark_retrieval.knn import NeighborLists


def nearest(queries, database, k, exclude=None, storage="float32"):
    """Return the k largest inner products of each query, ties by lower row; zero rows do not take part."""
    queries, database = (np.asarray(m).astype(storage).astype(np.float64) for m in (queries, database))
    neighbors = np.full((len(queries), k), -1, np.int32)
    weights = np.full((len(queries), k), -np.inf, np.float32)
    present = np.flatnonzero((database != 0).any(axis=1))
    for i, query in enumerate(queries):
        allowed = present if exclude is None else present[present != exclude[i]]
        if not query.any() or not len(allowed):
            continue
        scores = (database[allowed] @ query).astype(np.float32)
        order = np.argsort(-scores, kind="stable")[:k]
        neighbors[i, : len(order)], weights[i, : len(order)] = allowed[order], scores[order]
    return NeighborLists(neighbors, weights)


def assert_same(found, expected):
    """Require equal types, shapes and bytes."""
    for name in ("neighbors", "weights"):
        a, b = getattr(found, name), getattr(expected, name)
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_array_equal(a, b, err_msg=name)
        assert a.tobytes() == b.tobytes()


def unit(matrix):
    return (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype(np.float32)


def descriptors(seed, rows, dimensions=24):
    """Return random unit rows, some of them zero and some copies of others."""
    random = np.random.default_rng(seed)
    matrix = unit(random.normal(size=(rows, dimensions)))
    matrix[random.integers(0, rows, rows // 8)] = matrix[random.integers(0, rows, rows // 8)]
    matrix[random.integers(0, rows, rows // 16)] = 0
    return matrix


def clustered(seed, rows, dimensions=32, clusters=40, spread=0.5, centres_seed=0):
    """Return unit rows around common centres, as photos of the same landmarks are."""
    random = np.random.default_rng(seed)
    centres = unit(np.random.default_rng(centres_seed).normal(size=(clusters, dimensions)))
    noise = unit(random.normal(size=(rows, dimensions))) * spread
    return unit(centres[random.integers(0, clusters, rows)] + noise)


@st.composite
def problems(draw):
    """Draw queries, database, k and excluded rows whose products are exact, so that many are equal.

    Some searches are of the database in itself.
    """
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dimensions, rows = draw(st.integers(1, 6)), draw(st.integers(1, 130))
    levels = draw(st.sampled_from([1, 2, 8]))
    database = random.integers(-levels, levels + 1, (rows, dimensions)).astype(np.float32) / levels
    if draw(st.booleans()):
        queries, exclude = database, np.arange(rows)
    else:
        count = draw(st.integers(1, 40))
        queries = random.integers(-levels, levels + 1, (count, dimensions)).astype(np.float32) / levels
        exclude = random.integers(-1, rows, count)
    return queries, database, draw(st.integers(1, 150)), draw(st.sampled_from([None, exclude]))

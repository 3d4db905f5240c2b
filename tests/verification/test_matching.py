"""Matching against a brute-force reference in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from verification_scenes import make_features, photo, unit, view

from landmark_retrieval.verification import MatchingConfig, match
from landmark_retrieval.verification.matching import (
    RATIOS,
    as_float32,
    mutual_matches,
)


def reference(a, b, ratio):
    """Return pairs that are each other's nearest and pass the ratio test both ways, by explicit distances."""
    distances = np.linalg.norm(a[:, None].astype(np.float64) - b[None].astype(np.float64), axis=2)
    pairs = []
    for i in range(len(a)):
        j = int(distances[i].argmin())
        if distances[:, j].argmin() != i:
            continue
        others = np.concatenate([np.delete(distances[i], j), np.delete(distances[:, j], i)])
        if ratio >= 1 or len(others) == 0 or distances[i, j] < ratio * others.min():
            pairs.append((i, j))
    return np.array(pairs, np.int32).reshape(-1, 2)


@pytest.mark.parametrize("ratio", [0.7, 0.9, 0.97, 1.0])
@pytest.mark.parametrize("shape", [(40, 30), (65, 200), (1, 5), (3, 1), (130, 64)])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_equals_brute_force(shape, ratio, dtype):
    random = np.random.default_rng(shape[0])
    a = unit(random.normal(size=(shape[0], 16))).astype(dtype)
    b = unit(random.normal(size=(shape[1], 16))).astype(dtype)
    shared = min(shape) // 2
    b[:shared] = unit(a[:shared] + random.normal(size=(shared, 16)) * 0.1).astype(dtype)
    found = match(
        make_features(np.zeros((len(a), 2)), a, dtype=dtype),
        make_features(np.zeros((len(b), 2)), b, dtype=dtype),
        MatchingConfig(ratio=ratio),
    )
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, reference(unit(a.astype(float)), unit(b.astype(float)), ratio))


@settings(max_examples=60, deadline=None)
@given(
    arrays.arrays(
        np.float32,
        st.tuples(st.integers(1, 70), st.integers(1, 140)),
        elements=st.floats(-1, 1, width=16),
    ),
    st.sampled_from([0.8, 0.95, 1.0]),
)
def test_properties(similarities, ratio):
    pairs = mutual_matches(similarities, ratio)
    assert len(np.unique(pairs[:, 0])) == len(np.unique(pairs[:, 1])) == len(pairs)
    assert (np.diff(pairs[:, 0]) > 0).all()
    rows, columns = pairs.T
    assert (similarities[rows, columns] == similarities[rows].max(axis=1)).all()
    assert (similarities[rows, columns] == similarities[:, columns].max(axis=0)).all()
    if ratio < 1:
        swapped = mutual_matches(np.ascontiguousarray(similarities.T), ratio)
        assert {tuple(pair) for pair in pairs} == {tuple(pair[::-1]) for pair in swapped}


def test_swapping_the_images_swaps_the_columns():
    a = photo(0)
    b = view(a, np.eye(3), 1)
    forth, back = match(a, b, MatchingConfig()), match(b, a, MatchingConfig())
    assert len(forth) > 50
    assert {tuple(pair) for pair in forth} == {tuple(pair[::-1]) for pair in back}


def test_equal_descriptors_are_ambiguous():
    x = unit(np.random.default_rng(0).normal(size=(3, 8)))
    twice = make_features(np.zeros((4, 2)), x[[0, 0, 1, 2]], dtype=np.float32)
    once = make_features(np.zeros((3, 2)), x, dtype=np.float32)
    assert match(twice, once, MatchingConfig(ratio=0.9)).tolist() == [[2, 1], [3, 2]]
    assert match(twice, once, MatchingConfig(ratio=1.0)).tolist() == [[0, 0], [2, 1], [3, 2]]


def test_images_without_features_do_not_match():
    empty = make_features(np.zeros((0, 2)), np.zeros((0, 32)))
    assert match(empty, photo(0), MatchingConfig()).shape == (0, 2)
    assert match(photo(0), empty, MatchingConfig()).shape == (0, 2)


def test_half_precision_is_widened_exactly():
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)]
    np.testing.assert_array_equal(as_float32(finite), finite.astype(np.float32))


def test_open_ratio_is_filled_in_by_extractor():
    assert MatchingConfig().resolve("sift").ratio == RATIOS["sift"]
    assert MatchingConfig(ratio=0.5).resolve("sift").ratio == 0.5
    assert MatchingConfig().resolve("unheard of").ratio == MatchingConfig().resolve(None).ratio

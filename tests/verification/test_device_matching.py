"""Matching by PyTorch finds what the compiled matching finds."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from landmark_retrieval.local_features.base import LocalFeatures
from landmark_retrieval.verification.device_matching import BATCH, WIDTH_STEP, match_many, matching_device
from landmark_retrieval.verification.matching import MatchingConfig, match

CPU = torch.device("cpu")
DEVICES = [
    pytest.param("cpu"),
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")),
]


def features(random: np.random.Generator, count: int, common: np.ndarray | None = None) -> LocalFeatures:
    descriptors = random.normal(size=(count, 16))
    if common is not None:
        shared = min(count, len(common)) // 2
        descriptors[:shared] = common[:shared] + random.normal(0, 0.05, (shared, 16))
    descriptors /= np.maximum(np.linalg.norm(descriptors, axis=1, keepdims=True), 1e-9)
    keypoints = random.uniform(0, 100, (count, 2)).astype(np.float32)
    scores = random.random(count).astype(np.float32)
    ones = np.ones(count, np.float32)
    return LocalFeatures(keypoints, descriptors.astype(np.float16), scores, ones, (100, 100))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("ratio", [0.9, 0.98, 1.0])
def test_equal_to_one_pair_at_a_time(device: str, ratio: float) -> None:
    random = np.random.default_rng(0)
    config = MatchingConfig(ratio=ratio)
    a = features(random, 70)
    common = a.descriptors.astype(float)
    counts = [0, 1, 2, 30, 41, 70, 90] * 12  # more than a batch, and than one step of the width
    counts[5] = WIDTH_STEP + 1
    assert len(counts) > BATCH + 1
    others = [features(random, n, common if i % 2 else None) for i, n in enumerate(counts)]
    found = match_many([(a, other) for other in others], config, torch.device(device))
    for other, pairs in zip(others, found, strict=True):
        assert pairs.dtype == np.int32
        assert np.array_equal(pairs, match(a, other, config))
    assert sum(len(pairs) for pairs in found) > 50


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 1000), m=st.integers(0, 6), n=st.integers(0, 6), ratio=st.sampled_from([0.9, 1.0]))
def test_few_features_and_ties(seed: int, m: int, n: int, ratio: float) -> None:
    random = np.random.default_rng(seed)

    def tied(count: int) -> LocalFeatures:
        axes = np.eye(3, dtype=np.float16)[random.integers(0, 3, count)]
        zeros = np.zeros(count, np.float32)
        return LocalFeatures(np.zeros((count, 2), np.float32), axes, zeros, zeros, (9, 9))

    a, b = tied(m), tied(n)
    config = MatchingConfig(ratio=ratio)
    (found,) = match_many([(a, b)], config, CPU)
    assert np.array_equal(found, match(a, b, config))


def test_pairs_that_share_images_in_any_order() -> None:
    random = np.random.default_rng(4)
    common = random.normal(size=(40, 16))
    photos = [features(random, 20 + 5 * number, common) for number in range(5)]
    config = MatchingConfig(ratio=0.98)
    pairs = [(photos[i], photos[j]) for i in range(5) for j in range(5)]
    for (a, b), found in zip(pairs, match_many(pairs, config, CPU), strict=True):
        assert np.array_equal(found, match(a, b, config))


def test_nothing_to_match() -> None:
    random = np.random.default_rng(1)
    config = MatchingConfig(ratio=0.9)
    assert match_many([], config, CPU) == []
    (found,) = match_many([(features(random, 0), features(random, 5))], config, CPU)
    assert found.shape == (0, 2)


def test_the_gpu_is_used_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert matching_device("auto") == torch.device("cuda")
    assert matching_device("cpu") is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert matching_device("auto") is None

"""Homographies that were planted are found, and nothing is found where nothing is."""

import importlib.util
import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from verification_scenes import HOMOGRAPHIES, carry

from landmark_retrieval.verification import RansacConfig, estimate_homography, ransac

METHODS = [
    pytest.param(name, marks=pytest.mark.skipif(importlib.util.find_spec(module) is None, reason=module))
    for name, module in (("pydegensac", "pydegensac"), ("opencv_usac", "cv2"), ("poselib", "poselib"))
]


def planted(homography, inliers, outliers, seed, noise=0.5):
    random = np.random.default_rng(seed)
    a = random.uniform(0, 640, (inliers + outliers, 2))
    b = random.uniform(0, 640, (inliers + outliers, 2))
    b[:inliers] = carry(homography, a[:inliers]) + random.normal(size=(inliers, 2)) * noise
    return a, b


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=25, deadline=None)
@given(
    angle=st.floats(-3.0, 3.0),
    scale=st.floats(0.4, 2.5),
    stretch=st.floats(0.7, 1.4),
    tilt=st.tuples(st.floats(-3e-4, 3e-4), st.floats(-3e-4, 3e-4)),
    seed=st.integers(0, 1000),
)
def test_planted_homography_is_recovered(method, angle, scale, stretch, tilt, seed):
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    homography = np.eye(3)
    homography[:2, :2] = scale * rotation @ np.diag([stretch, 1])
    homography[:2, 2] = 320 - homography[:2, :2] @ [320, 320]
    homography[2] = [*tilt, 1 - 320 * sum(tilt)]
    a, b = planted(homography, 60, 60, seed, noise=0.3)
    found, inliers = estimate_homography(a, b, RansacConfig(method=method), seed)
    assert found[2, 2] == 1
    assert inliers[:60].mean() > 0.9 and inliers[60:].mean() < 0.15
    errors = np.linalg.norm(carry(found, a[:60]) - carry(homography, a[:60]), axis=1)
    assert np.median(errors) < 1.0


@pytest.mark.parametrize("method", METHODS)
def test_random_points_give_fewer_inliers_than_the_smallest_floor(method):
    counts = []
    for seed in range(40):
        a, b = planted(np.eye(3), 0, 60, seed)
        counts.append(int(estimate_homography(a, b, RansacConfig(method=method), seed)[1].sum()))
    assert max(counts) < 9


@pytest.mark.parametrize("method", METHODS)
def test_equal_seeds_give_equal_results(method):
    a, b = planted(HOMOGRAPHIES[0], 12, 40, 3, noise=2.0)
    config = RansacConfig(method=method)
    first = estimate_homography(a, b, config, 5)
    estimate_homography(b, a, config, 17)
    second = estimate_homography(a, b, config, 5)
    assert first[0].tobytes() == second[0].tobytes() and first[1].tobytes() == second[1].tobytes()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("count", [0, 1, 3])
def test_too_few_points_give_no_model(method, count):
    points = np.zeros((count, 2))
    homography, inliers = estimate_homography(points, points, RansacConfig(method=method), 0)
    assert not homography.any() and inliers.shape == (count,) and not inliers.any()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["one point", "line", "same target"])
def test_degenerate_points_do_not_fail(method, kind):
    x = np.arange(20.0)
    a = {
        "one point": np.full((20, 2), 7.0),
        "line": np.stack([x, 2 * x + 1], 1),
        "same target": np.random.default_rng(0).uniform(0, 640, (20, 2)),
    }[kind]
    b = np.full((20, 2), 3.0) if kind == "same target" else a
    homography, inliers = estimate_homography(a, b, RansacConfig(method=method), 1)
    assert np.isfinite(homography).all()
    if kind == "same target":
        assert inliers.sum() < 6


@pytest.mark.parametrize("method", METHODS)
def test_mirrored_and_collapsed_views_are_not_believed(method):
    config = RansacConfig(method=method)
    a, b = planted(np.diag([-1.0, 1, 1]) + np.array([[0, 0, 640], [0, 0, 0], [0, 0, 0]]), 50, 0, 0)
    assert estimate_homography(a, b, config, 0)[1].sum() == 0
    a, b = planted(np.array([[0.02, 0, 300], [0, 0.02, 300], [0, 0, 1]]), 50, 0, 0, noise=0)
    assert estimate_homography(a, b, config, 0)[1].sum() == 0


def test_plausible_points_do_not_depend_on_the_sign_of_the_homography():
    points = np.random.default_rng(0).uniform(0, 640, (200, 2))
    tilted = np.array([[1, 0, 0], [0, 1, 0], [-4e-3, 0, 1.0]])
    mask = ransac.plausible(tilted, points, 5.0)
    assert 0 < mask.sum() < 200
    np.testing.assert_array_equal(mask, ransac.plausible(-tilted, points, 5.0))
    area = np.abs(np.linalg.det(tilted) / (points @ tilted[2, :2] + 1) ** 3)
    assert (np.sqrt(area[mask]) < 5).all()


def test_below_the_floor_nothing_is_estimated(monkeypatch):
    monkeypatch.setitem(ransac._ESTIMATORS, "pydegensac", lambda *_: pytest.fail("estimated"))
    a, b = planted(HOMOGRAPHIES[0], 9, 0, 0)
    assert not estimate_homography(a, b, RansacConfig(), 0, min_inliers=10)[1].any()


def test_iterations_are_as_many_as_the_floor_needs():
    config = RansacConfig(confidence=0.99, max_iterations=100_000)
    # 12 of 60 matches: a sample is clean with probability 0.2^4.
    expected = np.log(0.01) / np.log(1 - 0.2**4)
    assert ransac.iteration_limit(60, 12, config) == int(np.ceil(expected))
    assert ransac.iteration_limit(10_000, 12, config) == 100_000
    assert ransac.iteration_limit(12, 12, config) <= 100
    limits = [ransac.iteration_limit(n, 10, config) for n in range(10, 200)]
    assert limits == sorted(limits)


def test_opencv_stands_in_where_pydegensac_is_missing(monkeypatch, caplog):
    ransac.available_method.cache_clear()
    monkeypatch.setattr(ransac.importlib.util, "find_spec", lambda name: None)
    with caplog.at_level(logging.WARNING):
        assert ransac.available_method("pydegensac") == "opencv_usac"
    assert "USAC_MAGSAC" in caplog.text
    ransac.available_method.cache_clear()

import logging
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.decomposition import PCA

from landmark_retrieval.descriptors.covariance import Covariance
from landmark_retrieval.descriptors.matrix import BlockArray, normalize_rows
from landmark_retrieval.descriptors.whitening import (
    Whitening,
    WhiteningConfig,
    apply_whitening,
    fit_whitening,
    learn_whitening,
    project,
    whiten_rows,
    whitening_rows,
)
from landmark_retrieval.errors import LandmarkRetrievalError


def correlated(n, d, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)).astype(np.float32)


def test_without_shrinkage_the_covariance_becomes_the_identity():
    x = correlated(500, 8)
    y = project(x, fit_whitening(x, WhiteningConfig(shrinkage=0.0)))
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(np.cov(y.T, bias=True), np.eye(8), atol=1e-3)


def test_without_shrinkage_it_is_the_pca_of_scikit_learn():
    x = correlated(300, 6)
    ours = project(x, fit_whitening(x, WhiteningConfig(shrinkage=0.0, dimensions=3)))
    theirs = PCA(3, whiten=True).fit_transform(x) * np.sqrt(300 / 299)
    np.testing.assert_allclose(np.abs(ours), np.abs(theirs), rtol=1e-2, atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(st.integers(3, 60), st.integers(2, 30), st.integers(0, 10_000))
def test_shrinkage_is_that_of_ledoit_and_wolf(n, d, seed):
    x = correlated(n, d, seed).astype(np.float64)
    moments = Covariance(d)
    for part in np.array_split(x, 3):
        moments.update(part)
    assert moments.ledoit_wolf() == pytest.approx(ledoit_wolf_shrinkage(x), rel=1e-5, abs=1e-7)


def test_fewer_independent_samples_mean_more_shrinkage():
    moments = Covariance(10)
    moments.update(correlated(200, 10))
    assert moments.ledoit_wolf(effective_count=20) == pytest.approx(10 * moments.ledoit_wolf())


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_inner_products_do_not_depend_on_the_axes(seed):
    x = correlated(12, 20, seed)
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(20, 20)))[0].astype(np.float32)
    plain = apply_whitening(x, fit_whitening(x, WhiteningConfig()))
    turned = apply_whitening(x @ rotation, fit_whitening(x @ rotation, WhiteningConfig()))
    np.testing.assert_allclose(plain @ plain.T, turned @ turned.T, atol=2e-3)


def test_full_shrinkage_only_centres():
    x = correlated(30, 10)
    y = apply_whitening(x, fit_whitening(x, WhiteningConfig(shrinkage=1.0)))
    centred = x - x.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    np.testing.assert_allclose(y @ y.T, centred @ centred.T, atol=1e-4)


def test_power_zero_only_rotates():
    x = correlated(30, 10)
    y = project(x, fit_whitening(x, WhiteningConfig(power=0.0)))
    np.testing.assert_allclose(np.linalg.norm(y, axis=1), np.linalg.norm(x - x.mean(0), axis=1), rtol=1e-4)


def test_few_samples_do_not_blow_up_directions_without_variance():
    x = correlated(5, 50)
    whitening = fit_whitening(x, WhiteningConfig(shrinkage=0.0))
    assert whitening.projection.shape[1] <= 5
    assert np.isfinite(whitening.projection).all()
    shrunk = fit_whitening(x, WhiteningConfig())
    assert shrunk.projection.shape == (50, 50)
    assert np.isfinite(shrunk.projection).all()


def test_zero_rows_are_left_out_and_stay_zero():
    x = correlated(40, 6)
    with_holes = np.concatenate([np.zeros((7, 6), np.float32), x])
    plain, holes = fit_whitening(x, WhiteningConfig()), fit_whitening(with_holes, WhiteningConfig())
    np.testing.assert_allclose(plain.projection, holes.projection, rtol=1e-4, atol=1e-6)
    y = apply_whitening(with_holes, holes)
    assert not y[:7].any()
    np.testing.assert_allclose(np.linalg.norm(y[7:], axis=1), 1, rtol=1e-5)


def test_blocks_give_what_the_whole_gives():
    x = correlated(40, 6)
    blocks = BlockArray(x.shape, x.dtype, [x[:7], x[7:33], x[33:]])
    whole, streamed = fit_whitening(x, WhiteningConfig()), fit_whitening(blocks, WhiteningConfig())
    np.testing.assert_allclose(whole.projection, streamed.projection, rtol=1e-4, atol=1e-6)
    lazy = whiten_rows(blocks, whole, "float16")
    assert lazy.shape == (40, 6) and lazy.dtype == np.float16
    np.testing.assert_allclose(np.asarray(lazy), apply_whitening(x, whole), atol=1e-3)


def test_no_whitening_only_normalises(caplog):
    x = correlated(4, 3)
    for none in (fit_whitening(x, None), fit_whitening(x[:1], WhiteningConfig())):
        assert none.is_none
        np.testing.assert_allclose(
            apply_whitening(x, none), x / np.linalg.norm(x, axis=1, keepdims=True), rtol=1e-5
        )
        assert whiten_rows(x, none).shape == x.shape
    assert "at least 2" in caplog.text


def test_whitening_of_another_length_is_refused():
    whitening = Whitening(np.zeros(3, np.float32), np.eye(3, dtype=np.float32))
    with pytest.raises(LandmarkRetrievalError, match="3-d descriptors, these have 5"):
        apply_whitening(np.ones((2, 5)), whitening)


@settings(max_examples=30, deadline=None)
@given(arrays(np.float32, (6, 4), elements=st.floats(-10, 10, width=32)))
def test_rows_have_unit_length_or_are_zero(x):
    y = apply_whitening(x, fit_whitening(x, WhiteningConfig()))
    norms = np.linalg.norm(y, axis=1)
    assert np.all(np.isclose(norms, 1, atol=1e-4) | (norms == 0))


def splits(query, index, train):
    return SimpleNamespace(
        query=slice(0, query),
        index=slice(query, query + index),
        train=slice(query + index, query + index + train),
    )


@pytest.mark.parametrize(("train", "expected"), [(10, range(23, 33)), (9, range(3, 32)), (0, range(3, 23))])
def test_rows_come_from_the_train_split_when_it_is_large_enough(train, expected, caplog):
    config = WhiteningConfig(min_images=10)
    with caplog.at_level(logging.INFO):
        assert whitening_rows(splits(3, 20, train), config).tolist() == list(expected)
    assert "whitening takes" in caplog.text


def test_rows_are_thinned_evenly():
    rows = whitening_rows(splits(3, 0, 100), WhiteningConfig(min_images=2, max_images=5))
    assert len(rows) == 5 and rows[0] == 3 and rows[-1] == 102


def labelled_table(query, index, train, landmarks):
    n = query + index + train
    return pd.DataFrame(
        {
            "image_id": [str(i) for i in range(n)],
            "path": [""] * n,
            "split": ["query"] * query + ["index"] * index + ["train"] * train,
            "landmark_id": pd.array(landmarks, dtype="Int64"),
        }
    )


def test_learning_prefers_views_of_the_same_landmark():
    x = correlated(60, 6)
    landmarks = [0] * 20 + [i % 4 for i in range(40)]
    table = labelled_table(5, 15, 40, landmarks)
    ours = learn_whitening(x, table, WhiteningConfig(shrinkage=0.0))
    labels = np.array(landmarks[20:])
    deviations = np.concatenate([x[20:][labels == i] - x[20:][labels == i].mean(0) for i in range(4)])
    white = deviations @ ours.projection
    np.testing.assert_allclose(np.cov(white.T, bias=True), np.eye(6), atol=1e-3)
    np.testing.assert_allclose(ours.mean, x[5:].mean(0), atol=1e-4)


def test_learning_falls_back_to_the_total_covariance_then_to_centring():
    x = correlated(60, 6)
    table = labelled_table(5, 15, 40, [pd.NA] * 60)
    many = learn_whitening(x, table, WhiteningConfig(min_images=40, shrinkage=0.0))
    expected = fit_whitening(x[20:], WhiteningConfig(shrinkage=0.0))
    np.testing.assert_allclose(many.projection, expected.projection, rtol=1e-4, atol=1e-6)
    few = learn_whitening(x, table, WhiteningConfig())
    centred = normalize_rows(x - x[5:].mean(0))
    y = apply_whitening(x, few)
    np.testing.assert_allclose(y @ y.T, centred @ centred.T, atol=1e-3)
    assert learn_whitening(x, table, None).is_none


def test_queries_never_influence_whitening():
    x = correlated(60, 6)
    other = x.copy()
    other[:5] = 100
    for table in (labelled_table(5, 55, 0, [pd.NA] * 60), labelled_table(5, 15, 40, [0] * 60)):
        for config in (WhiteningConfig(), WhiteningConfig(covariance="total")):
            a, b = learn_whitening(x, table, config), learn_whitening(other, table, config)
            np.testing.assert_array_equal(a.projection, b.projection)
            np.testing.assert_array_equal(a.mean, b.mean)


def test_within_needs_two_images_of_one_landmark():
    table = labelled_table(1, 2, 3, [0, 1, 2, 0, 1, 2])
    with pytest.raises(LandmarkRetrievalError, match="two train images of one landmark"):
        learn_whitening(correlated(6, 3), table, WhiteningConfig(covariance="within"))


def test_dimensions_of_within_whitening_are_those_that_vary_most():
    rng = np.random.default_rng(0)
    landmarks = np.repeat(np.arange(20), 5)
    x = (rng.normal(size=(20, 2))[landmarks] @ rng.normal(size=(2, 8)) * 3).astype(np.float32)
    x += rng.normal(size=x.shape).astype(np.float32) * 0.1
    whitening = fit_whitening(x, WhiteningConfig(dimensions=2, shrinkage=0.0), landmarks)
    y = project(x, whitening)
    assert y.shape == (100, 2)
    means = np.stack([y[landmarks == i].mean(0) for i in range(20)])
    assert means.var() > 20 * (y - means[landmarks]).var()

"""Aggregated local features against the formulas of their sources, written as loops."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from landmark_retrieval.descriptors import aggregated
from landmark_retrieval.descriptors.aggregated import (
    AggregatedConfig,
    aggregate,
    aggregate_rows,
    aggregated_descriptors,
    learn_codebook,
    learning_rows,
    project,
    stored_codebook,
)
from landmark_retrieval.runtime.store import Store


class Photos:
    """Features of a few made-up photos; three places are seen by every third photo each."""

    def __init__(self, images: int, size: int = 60, dimensions: int = 8, empty: tuple[int, ...] = ()) -> None:
        random = np.random.default_rng(0)
        places = random.normal(size=(3, size, dimensions))
        noise = 0.3 * random.normal(size=(images, size, dimensions))
        self.features = [places[image % 3] + noise[image] for image in range(images)]
        for image in empty:
            self.features[image] = np.zeros((0, dimensions))
        self.images, self.dimensions = images, dimensions
        self.reads = 0
        self.namespace = "local_features/made-up"
        self.keys = np.array([f"photo {row}" for row in range(images)])

    def get(self, row: int) -> SimpleNamespace:
        self.reads += 1
        x = self.features[row]
        return SimpleNamespace(descriptors=(x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float16))


def slow_vlad(x: NDArray[np.floating], words: NDArray[np.floating]) -> NDArray[np.float64]:
    """Sums of residuals a word, each of unit length, then all of unit length (Jégou et al., section 3)."""
    sums = [np.zeros(words.shape[1]) for _ in words]
    for feature in x.astype(np.float64):
        distances = [((feature - word) ** 2).sum() for word in words.astype(np.float64)]
        nearest = int(np.argmin(distances))
        sums[nearest] += feature - words[nearest]
    unit = [part / np.linalg.norm(part) if np.linalg.norm(part) > 0 else part for part in sums]
    whole = np.concatenate(unit)
    return whole / np.linalg.norm(whole) if np.linalg.norm(whole) > 0 else whole


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), features=st.integers(0, 40), words=st.integers(1, 12))
def test_sums_of_residuals(seed: int, features: int, words: int) -> None:
    random = np.random.default_rng(seed)
    x = random.normal(size=(features, 5)).astype(np.float32)
    book = random.normal(size=(words, 5)).astype(np.float32)
    np.testing.assert_allclose(aggregate(x, book), slow_vlad(x, book), atol=1e-5)


def test_the_order_of_features_does_not_matter() -> None:
    random = np.random.default_rng(1)
    x, words = random.normal(size=(50, 6)).astype(np.float32), random.normal(size=(7, 6)).astype(np.float32)
    np.testing.assert_allclose(aggregate(x[::-1], words), aggregate(x, words), atol=1e-6)


def test_with_an_axis_for_each_photo_inner_products_are_those_of_the_long_vectors() -> None:
    photos = Photos(20)
    codebook = learn_codebook(photos, np.arange(20), AggregatedConfig(words=6, dimensions=64))
    assert codebook.dimensions == 19  # as many as 20 photos less their mean span
    long = np.stack([slow_vlad(photos.get(row).descriptors, codebook.words) for row in range(20)])
    centred = long - long.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    found = aggregate_rows(photos, codebook, slice(0, 20)).astype(np.float64)
    np.testing.assert_allclose(found @ found.T, centred @ centred.T, atol=5e-3)


def test_many_photos_are_half_whitened() -> None:
    photos = Photos(40, dimensions=4)
    codebook = learn_codebook(photos, np.arange(40), AggregatedConfig(words=5, dimensions=10))
    long = np.stack([slow_vlad(photos.get(row).descriptors, codebook.words) for row in range(40)])
    centred = long - long.mean(axis=0)
    _, deviations, axes = np.linalg.svd(centred / np.sqrt(40), full_matrices=False)
    expected = (centred @ axes[:10].T) / np.sqrt(deviations[:10])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = aggregate_rows(photos, codebook, slice(0, 40)).astype(np.float64)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=2e-2)


def test_photos_of_one_place_are_alike() -> None:
    photos = Photos(30)
    codebook = learn_codebook(photos, np.arange(30), AggregatedConfig(words=8, dimensions=32))
    found = aggregate_rows(photos, codebook, slice(0, 30)).astype(np.float32)
    similarities = found @ found.T - 2 * np.eye(30)
    assert (similarities.argmax(axis=1) % 3 == np.arange(30) % 3).all()


def test_photos_without_features_have_zero_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aggregated, "BATCH", 4)
    photos = Photos(10, empty=(0, 7))
    codebook = learn_codebook(photos, np.arange(10), AggregatedConfig(words=3))
    rows = aggregate_rows(photos, codebook, slice(0, 12))  # two train images have none at all
    assert rows.dtype == np.float16
    lengths = np.linalg.norm(rows.astype(np.float32), axis=1)
    np.testing.assert_allclose(lengths, [0, 1, 1, 1, 1, 1, 1, 0, 1, 1, 0, 0], atol=1e-3)
    part = aggregate_rows(photos, codebook, slice(5, 9))
    np.testing.assert_allclose(part.astype(np.float32), rows[5:9].astype(np.float32), atol=1e-3)


def test_a_collection_without_any_feature_can_be_aggregated() -> None:
    photos = Photos(4, empty=(0, 1, 2, 3))
    codebook = learn_codebook(photos, np.arange(4), AggregatedConfig())
    assert not aggregate_rows(photos, codebook, slice(0, 4)).any()
    nobody = learn_codebook(photos, np.arange(0), AggregatedConfig())
    assert project(np.zeros((2, nobody.words.size), np.float32), nobody).shape == (2, 0)


def test_no_more_words_than_features_can_teach_and_the_same_ones_every_time() -> None:
    photos = Photos(10)
    first, again = (learn_codebook(photos, np.arange(10), AggregatedConfig()) for _ in range(2))
    assert len(first.words) == 600 // 39
    np.testing.assert_array_equal(first.words, again.words)
    np.testing.assert_array_equal(first.axes, again.axes)
    other = learn_codebook(photos, np.arange(10), AggregatedConfig(seed=1))
    assert not np.array_equal(first.words, other.words)


def test_photos_to_learn_on_are_spread_over_the_index() -> None:
    rows = learning_rows(slice(10, 10_010), AggregatedConfig(dimensions=50))
    assert len(rows) == 100
    assert rows[0] == 10
    assert rows[-1] == 10_009
    assert np.ptp(np.diff(rows)) <= 1
    np.testing.assert_array_equal(learning_rows(slice(3, 6), AggregatedConfig()), [3, 4, 5])


@pytest.mark.parametrize("name", [None, "first"])
def test_a_codebook_with_a_name_stays_when_photos_are_added(tmp_path: Path, name: str | None) -> None:
    store, config = Store(str(tmp_path)), AggregatedConfig(words=4, codebook=name)
    before = stored_codebook(Photos(12), slice(2, 12), store, config)
    again = stored_codebook(Photos(12), slice(2, 12), store, config)
    np.testing.assert_array_equal(before.axes, again.axes)
    after = stored_codebook(Photos(15), slice(2, 15), store, config)
    assert np.array_equal(before.axes, after.axes) == (name is not None)
    assert [work.computed for work in store.work] == [1, 0, 1 if name is None else 0]


def test_no_dimensions_make_no_codebook_and_propose_nobody(tmp_path: Path) -> None:
    photos, config = Photos(6), AggregatedConfig(dimensions=0)
    codebook = stored_codebook(photos, slice(0, 6), Store(str(tmp_path)), config)
    images = pd.DataFrame({"image_id": list("abcdef")})
    descriptors = aggregated_descriptors(photos, codebook, images)
    assert not np.asarray(descriptors.matrix).any()
    assert photos.reads == 0


def test_the_matrix_of_a_table_is_made_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aggregated, "BATCH", 4)
    photos = Photos(10)
    codebook = learn_codebook(photos, np.arange(10), AggregatedConfig(words=3))
    images = pd.DataFrame({"image_id": [f"photo {row}" for row in range(11)]})
    descriptors = aggregated_descriptors(photos, codebook, images)
    blocks = list(descriptors.matrix)
    assert [len(block) for block in blocks] == [4, 4, 3]
    whole = aggregate_rows(photos, codebook, slice(0, 11)).astype(np.float32)
    np.testing.assert_allclose(np.concatenate(blocks).astype(np.float32), whole, atol=1e-3)
    assert descriptors.ids[10] == "photo 10"

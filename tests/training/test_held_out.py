"""Images kept out of training: which, and how well they find each other."""

from __future__ import annotations

import numpy as np
import pytest

from landmark_retrieval.evaluation.gld import average_precision
from landmark_retrieval.training import held_out
from landmark_retrieval.training.held_out import held_out_images, held_out_precision
from landmark_retrieval.training.labels import rows_by_label


def test_held_out_precision_by_hand() -> None:
    rows = np.array([[1, 0], [0.9, 0.1], [0, 1], [0.8, 0.2]], np.float32)
    labels = np.array([0, 0, 1, 1])
    # Of image 2 the nearest is 3, its own; of image 3 the nearest are 1, 0 and then 2.
    assert held_out_precision(rows, labels) == pytest.approx((1 + 1 + 1 + 1 / 3) / 4)


def test_held_out_images_leave_two_to_train_on() -> None:
    labels = np.repeat([0, 1, 2, 3], [2, 3, 4, 20])
    held = held_out_images(labels, 0.5, seed=3)
    assert [int(held[labels == label].sum()) for label in range(4)] == [0, 0, 2, 10]
    assert np.array_equal(held, held_out_images(labels, 0.5, seed=3))


def test_the_same_images_are_drawn_as_label_by_label() -> None:
    labels = np.random.default_rng(0).integers(0, 40, 500)
    random, expected = np.random.default_rng(7), np.zeros(500, np.bool_)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if (count := min(round(0.3 * len(members)), len(members) - 2)) >= 2:
            expected[random.permutation(members)[:count]] = True
    assert np.array_equal(held_out_images(labels, 0.3, seed=7), expected)
    assert not len(held_out_images(labels[:0], 0.3, seed=7))


def test_precision_in_blocks_is_that_of_all_similarities(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    labels = random.permutation(np.repeat(np.arange(60), [2 + number % 7 for number in range(60)]))
    rows = random.normal(size=(60, 16))[labels] + random.normal(size=(len(labels), 16))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    similarities = rows.astype(np.float64) @ rows.T.astype(np.float64)
    np.fill_diagonal(similarities, -np.inf)
    order = np.argsort(-similarities, axis=1, kind="stable")[:, :-1].astype(np.int32)
    relevant = [np.setdiff1d(np.flatnonzero(labels == label), [row]) for row, label in enumerate(labels)]
    expected = float(np.mean(average_precision(order, relevant)))
    assert held_out_precision(rows, labels) == expected
    monkeypatch.setattr(held_out, "BLOCK", 17)
    assert held_out_precision(rows, labels) == expected


def test_images_without_a_descriptor_find_nothing() -> None:
    rows = np.array([[1, 0], [1, 0], [0, 0], [0, 0]], np.float32)
    assert held_out_precision(rows, np.array([0, 0, 1, 1])) == 0.5


def test_rows_by_label() -> None:
    groups = rows_by_label(np.array([5, 2, 5, 2, 9]))
    assert {label: rows.tolist() for label, rows in groups.items()} == {2: [1, 3], 5: [0, 2], 9: [4]}

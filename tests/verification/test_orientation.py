"""Choice of turns, against loops and made-up photos."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from landmark_retrieval.images import TURNS
from landmark_retrieval.knn import NeighborLists
from landmark_retrieval.verification.orientation import (
    CANDIDATES,
    TRIAL,
    find_turns,
    likeliest_partners,
    settle,
    turned_table,
    without_partner,
)


def test_each_photo_is_turned_three_times() -> None:
    images = pd.DataFrame({"image_id": list("abcd"), "path": ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]})
    table = turned_table(images, np.array([1, 3]))
    assert table["image_id"].tolist() == ["b", "d"] * 3
    assert table["turn"].tolist() == [90, 90, 180, 180, 270, 270]


def test_the_likeliest_partners_at_each_turn() -> None:
    neighbors = np.array([[4, 2], [1, -1], [-1, -1]], np.int32)
    turned, partners = likeliest_partners(NeighborLists(neighbors, np.zeros((3, 2), np.float32)))
    assert turned.tolist() == [0, 0, 1]
    assert partners.tolist() == [4, 2, 1]
    many = NeighborLists(np.arange(60, dtype=np.int32).reshape(3, 20), np.zeros((3, 20), np.float32))
    assert len(likeliest_partners(many)[0]) == 3 * CANDIDATES


def test_a_photo_stands_as_for_its_surest_partner() -> None:
    # Three photos: rows 0, 3 and 6 of the turned table are the first one.
    turned = np.array([0, 3, 6, 1, 4, 8])
    inliers = np.array([13, 40, 11, 11, 5, 12], np.int32)
    assert settle(turned, inliers, 3, 12).tolist() == [180, 0, 270]
    assert settle(turned[:0], inliers[:0], 2, 12).tolist() == [0, 0]


def test_who_has_no_partner() -> None:
    pairs = pd.DataFrame({"row_a": [0, 1, 2], "row_b": [3, 3, 5], "inliers": [12, 11, 40]})
    assert without_partner(pairs, 6, 12).tolist() == [1, 4]
    assert without_partner(pairs.iloc[:0], 2, 12).tolist() == [0, 1]


@pytest.mark.parametrize("turned_share", [0.0, 1.0])
def test_index_photos_are_turned_as_long_as_that_finds_partners(turned_share: float) -> None:
    asked: list[NDArray[np.int64]] = []

    def try_turned(rows: NDArray[np.int64]) -> NDArray[np.int64]:
        asked.append(rows)
        return np.where(rows < 5, 0, 90 if turned_share else 0).astype(np.int64)

    queries, index = np.arange(5), np.arange(10, 210)
    found = list(find_turns(queries, index, try_turned, images=2000))
    assert asked[0].tolist() == queries.tolist()
    tried = np.concatenate(asked[1:])
    assert len(np.unique(tried)) == len(tried)
    assert len(tried) == (200 if turned_share else TRIAL)
    assert sum(len(rows) for rows, _ in found) == 5 + len(tried)
    again = list(find_turns(queries, index, try_turned, images=2000))
    np.testing.assert_array_equal(again[1][0], found[1][0])  # the order is that of the seed


def test_a_small_collection_tries_few_and_an_empty_one_nobody() -> None:
    def try_turned(rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.zeros(len(rows), np.int64)

    nobody = np.zeros(0, np.int64)
    found = list(find_turns(nobody, np.arange(20), try_turned, images=64))
    assert [len(rows) for rows, _ in found] == [2]
    assert list(find_turns(nobody, nobody, try_turned, images=0)) == []


def test_turns_are_those_of_images() -> None:
    assert list(TURNS) == [90, 180, 270]

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from landmark_retrieval.collection.duplicates import (
    SAME_BYTES,
    SAME_PICTURE,
    DuplicatesConfig,
    find_alike,
    frame_overlap,
    near_duplicates,
)

SCALED = np.diag([0.5, 0.5, 1.0])
SHIFTED = np.array([[1.0, 0, 50], [0, 1, 0], [0, 0, 1]])
FLIPPED = np.array([[-1.0, 0, 100], [0, 1, 0], [0, 0, 1]])


@pytest.mark.parametrize(
    ("homography", "size_a", "size_b", "expected"),
    [
        (np.eye(3), (100, 80), (100, 80), 1.0),
        (SCALED, (100, 80), (50, 40), 1.0),
        (SHIFTED, (100, 80), (100, 80), 1 / 3),
        (SHIFTED, (100, 80), (40, 80), 0.0),
        (np.array([[1.0, 0, 5], [0, 1, 4], [0, 0, 1]]), (90, 72), (100, 80), 0.81),
        (np.zeros((3, 3)), (100, 80), (100, 80), 0.0),
    ],
)
def test_overlap_of_frames(
    homography: np.ndarray, size_a: tuple[int, int], size_b: tuple[int, int], expected: float
) -> None:
    found = frame_overlap(homography[None], np.array([size_a], float), np.array([size_b], float))
    assert found.tolist() == pytest.approx([expected], abs=1e-6)


def test_alike_are_sure_pairs_that_agree_all_over() -> None:
    rows = [(0, 1, 100, 95, 0.999), (0, 2, 100, 50, 0.999), (1, 2, 100, 95, 0.9), (2, 3, 10, 10, 1.0)]
    pairs = pd.DataFrame(rows, columns=["row_a", "row_b", "matches", "inliers", "probability"])
    for number, value in enumerate(np.eye(3).ravel()):
        pairs[f"h{number // 3 + 1}{number % 3 + 1}"] = value
    asked = []

    def size(row: int) -> tuple[int, int]:
        asked.append(row)
        return (0, 0) if row == 3 else (60, 40)

    alike, pixels = find_alike(pairs, size, 5, DuplicatesConfig())
    assert alike[["row_a", "row_b"]].to_numpy().tolist() == [[0, 1]]
    assert asked == [0, 1, 2, 3], "only photos of candidates are looked at"
    assert pixels.tolist() == [2400, 2400, 2400, 0, 0]


def test_the_larger_picture_and_the_plainer_name_are_kept() -> None:
    ids = ["a copy", "a", "b", "small", "c"]
    alike = pd.DataFrame({"row_a": [2, 0], "row_b": [3, 1], "overlap": [0.9, 1.0], "inliers": [40, 90]})
    found = near_duplicates(
        ids,
        [f"{name}.jpg" for name in ids],
        np.array(["1", "1", "2", "3", ""]),
        np.array([6, 6, 9, 4, 0]),
        alike,
    )
    assert found.to_numpy().tolist() == [
        ["a", "a copy", SAME_BYTES, 1.0, 0],
        ["b", "small", SAME_PICTURE, 0.9, 40],
    ]


def test_photos_that_cannot_be_read_repeat_nothing() -> None:
    nothing = pd.DataFrame({"row_a": [], "row_b": [], "overlap": [], "inliers": []})
    assert near_duplicates(["a", "b"], ["a", "b"], np.array(["", ""]), np.zeros(2, int), nothing).empty

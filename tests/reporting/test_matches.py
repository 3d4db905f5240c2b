"""Compared pairs chosen and drawn: against pictures whose geometry is known."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from landmark_retrieval.images import image_sources, load_image, photo_keys
from landmark_retrieval.local_features import LocalFeaturesConfig, LocalFeatureStore, extract_local_features
from landmark_retrieval.reporting.matches import GAP, choose_pairs, draw_match, verified_matches
from landmark_retrieval.runtime.store import Store
from landmark_retrieval.verification import VerificationConfig


def pairs(*rows: tuple[int, int, int]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["row_a", "row_b", "inliers"])


LANDMARKS = np.array([0, 1, 2, 0, 1, 2, -1])
"""Rows 0 to 2 are queries, 3 to 5 show their landmarks, 6 none."""


def test_strong_close_and_wrong_pairs_are_chosen() -> None:
    table = pairs((0, 3, 90), (0, 4, 40), (1, 4, 21), (1, 5, 60), (2, 5, 50), (2, 3, 0))
    chosen = choose_pairs(table, LANDMARKS, [0, 1, 2], floor=20, count=3)
    assert chosen[["row_a", "row_b"]].to_numpy().tolist() == [[0, 3], [1, 4], [1, 5]]


def test_no_pair_is_chosen_twice_nor_of_other_queries_nor_without_inliers() -> None:
    table = pairs((0, 3, 90), (1, 4, 21), (2, 5, 50), (2, 3, 0))
    chosen = choose_pairs(table, LANDMARKS, [0, 2], floor=20, count=6)
    assert sorted(chosen["row_a"]) == [0, 2] and (chosen["inliers"] > 0).all()
    assert choose_pairs(table, LANDMARKS, [], floor=20, count=6).empty
    assert choose_pairs(table, LANDMARKS, [0], floor=20, count=0).empty


def test_an_image_without_landmark_is_never_right() -> None:
    table = pairs((0, 6, 90), (0, 3, 10))
    chosen = choose_pairs(table, np.array([-1, 1, 2, 0, 1, 2, -1]), [0], floor=5, count=3)
    assert chosen["row_b"].tolist() == [6]


def photo(tmp_path: Path, name: str, size: tuple[int, int], colour: str) -> Path:
    file = tmp_path / f"{name}.png"
    Image.new("RGB", size, colour).save(file)
    return file


def test_lines_join_the_points_where_they_are(tmp_path: Path) -> None:
    left = photo(tmp_path, "left", (200, 100), "white")
    right = photo(tmp_path, "right", (300, 300), "white")
    drawn = draw_match(left, right, np.array([[100.0, 50.0]]), np.array([[150.0, 150.0]]), side=150)
    picture = np.asarray(Image.open(io.BytesIO(drawn)).convert("L"))
    assert picture.shape == (150, 300 + GAP + 150)
    columns = np.flatnonzero((picture < 190).any(axis=0))
    middle = 300 + GAP + 75
    assert abs(columns.min() - 147) <= 3 and abs(columns.max() - (middle + 3)) <= 3
    assert (picture[70:80, 155 : middle - 5].min(axis=0) < 190).all()
    assert picture[:60].min() > 190


def test_no_inliers_and_an_unreadable_photo(tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"not a picture")
    nothing = np.zeros((0, 2))
    drawn = draw_match(photo(tmp_path, "a", (40, 80), "red"), broken, nothing, nothing, side=40)
    picture = np.asarray(Image.open(io.BytesIO(drawn)).convert("RGB")).astype(int)
    assert picture.shape == (40, 20 + GAP + 40, 3)
    assert picture[20, 5, 0] > 200 and abs(picture[20, -10] - 0x9A).max() < 8


@pytest.fixture
def shifted(tmp_path: Path, demo_root: Path) -> pd.DataFrame:
    """A photo, the same photo moved by (40, 24) pixels, and another one."""
    names = {
        "a": ("piazza_san_marco_00", (40, 24)),
        "b": ("piazza_san_marco_00", (0, 0)),
        "c": ("other_painting", (0, 0)),
    }
    table = pd.read_csv(demo_root / "images.csv", dtype=str).set_index("image_id")
    for name, (image, (x, y)) in names.items():
        with Image.open(demo_root / table.loc[image, "path"]) as opened:
            opened.convert("RGB").crop((x, y, x + 360, y + 260)).save(tmp_path / f"{name}.png")
    return pd.DataFrame(
        {
            "image_id": list(names),
            "path": [str(tmp_path / f"{name}.png") for name in names],
            "split": ["query", "index", "index"],
            "landmark_id": pd.array([7, 7, 8], dtype="Int64"),
        }
    )


def test_inliers_have_the_known_shift(tmp_path: Path, shifted: pd.DataFrame) -> None:
    assert load_image(image_sources(shifted)[0]).size == (360, 260)
    config = LocalFeaturesConfig(extractor={"name": "sift"}, max_side=400, max_keypoints=300)
    keys = photo_keys(image_sources(shifted))
    stored = extract_local_features(shifted, keys, Store(str(tmp_path / "store")), config)
    store = LocalFeatureStore(stored)
    good, bad = verified_matches(
        pairs((0, 1, 99), (0, 2, 3)), shifted, store, VerificationConfig(), floor=20, side=100
    )
    assert good.verified and good.correct and len(good.points_a) > 50
    assert np.median(np.abs(good.points_a + np.array([40, 24]) - good.points_b)) < 1.5
    assert not bad.verified and bad.correct is False and bad.matches >= len(bad.points_a)
    assert Image.open(io.BytesIO(good.picture)).format == "JPEG"

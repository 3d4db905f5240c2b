"""Local features of hloc's file: taken as they are, or refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

from landmark_retrieval.descriptors.imported import match_ids
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.local_features import LocalFeaturesConfig, LocalFeatureStore, StoredFeatures
from landmark_retrieval.local_features.imported import group_names, take_local_features
from landmark_retrieval.runtime.store import Store

IMAGES = pd.DataFrame(
    {
        "image_id": ["q", "a", "b", "t"],
        "path": ["/d/query/q.jpg", "/d/db/a.jpg", "/d/db/b.jpg", "/d/t.jpg"],
        "split": ["query", "index", "index", "train"],
    }
)
NAMES = ("query/q.jpg", "db/a.jpg", "db/b.jpg")


def features(seed: int, count: int = 6) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    return {
        "keypoints": random.uniform(0, 99, (count, 2)).astype(np.float32),
        "descriptors": random.normal(size=(8, count)).astype(np.float16),
        "scores": random.permutation(count).astype(np.float16),
        "image_size": np.array([120, 100]),
    }


def write(file: Path, changed: dict[str, dict[str, Any] | None] | None = None) -> dict[str, dict[str, Any]]:
    """Write a file of features of `NAMES`, some of it changed, images or parts left out where None."""
    content = {name: features(number) for number, name in enumerate(NAMES)}
    for name, parts in (changed or {}).items():
        if parts is None:
            del content[name]
        else:
            content[name] = {**content.get(name, features(9)), **parts}
    with h5py.File(file, "w") as opened:
        for name, parts in content.items():
            for part, values in parts.items():
                if values is not None:
                    opened[f"{name}/{part}"] = values
    return content


def take(file: Path, root: Path, most: int = 2000) -> StoredFeatures:
    names = group_names(file)
    rows = match_ids(np.array(names), IMAGES)
    return take_local_features(
        file, IMAGES, rows, names, Store(str(root / "store")), LocalFeaturesConfig(max_keypoints=most)
    )


def test_features_are_those_of_the_file(tmp_path: Path) -> None:
    """In falling order of scores, descriptors as rows of unit length; a train image may have none."""
    content = write(tmp_path / "f.h5", {"db/a.jpg": features(1, 0)})
    stored = take(tmp_path / "f.h5", tmp_path, most=4)
    store = LocalFeatureStore(stored)
    assert (stored.extractor, stored.dimensions) == ("hloc", 8)
    for row, name in enumerate(NAMES):
        given, found = content[name], store.get(row)
        order = np.argsort(-given["scores"].astype(float))[:4]
        np.testing.assert_array_equal(found.keypoints, given["keypoints"][order])
        rows = given["descriptors"].T[order].astype(np.float64)
        expected = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
        np.testing.assert_allclose(found.descriptors, expected, atol=1e-3)
        assert found.size == (120, 100)
    assert len(store.get(3)) == 0
    assert stored.keys[3] == ""


def test_what_is_in_the_store_is_kept_by_content(tmp_path: Path) -> None:
    """The same features have the same keys in any file, others have others."""
    write(tmp_path / "f.h5")
    first = take(tmp_path / "f.h5", tmp_path)
    write(tmp_path / "g.h5", {"db/b.jpg": {"scores": np.arange(6, dtype=np.float32)}})
    second = take(tmp_path / "g.h5", tmp_path)
    assert (first.keys[:2] == second.keys[:2]).all()
    assert first.keys[2] != second.keys[2]


NAN = np.where(np.arange(16).reshape(8, 2) == 5, np.nan, 1.0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"db/a.jpg": None}, r"1 queries and index images have no local features.*such as 'a'.*'db/b\.jpg'"),
        ({"db/a.jpg": {"image_size": None}}, r"'db/a\.jpg' has no 'image_size'"),
        ({"db/a.jpg": {"scores": None}}, r"'db/a\.jpg' has no 'scores'"),
        (
            {"db/a.jpg": {"descriptors": np.ones((6, 8))}},
            r"descriptors \[6, 8\].*hloc has keypoints",
        ),
        ({"db/a.jpg": {"scores": np.ones(5)}}, r"scores \[5\]"),
        ({"db/a.jpg": {"keypoints": np.ones((6, 3))}}, r"keypoints \[6, 3\]"),
        ({"db/a.jpg": {**features(1, 2), "descriptors": NAN}}, r"'db/a\.jpg' holds NaN or infinity"),
        ({"db/b.jpg": {"descriptors": np.ones((5, 6))}}, r"'db/b\.jpg' have 5 numbers, those before it 8"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    """With the file, the image and what is wanted."""
    write(tmp_path / "f.h5", changed)
    with pytest.raises(LandmarkRetrievalError, match=rf"f\.h5: .*{message}"):
        take(tmp_path / "f.h5", tmp_path)


def test_files_that_hold_no_local_features(tmp_path: Path) -> None:
    """Missing, damaged, or of global features."""
    with pytest.raises(LandmarkRetrievalError, match="there is no such file"):
        group_names(tmp_path / "gone.h5")
    (tmp_path / "damaged.h5").write_bytes(b"x" * 100)
    with pytest.raises(LandmarkRetrievalError, match=r"damaged\.h5: cannot be read"):
        group_names(tmp_path / "damaged.h5")
    with h5py.File(tmp_path / "global.h5", "w") as opened:
        opened["db/a.jpg/global_descriptor"] = np.ones(4)
    with pytest.raises(LandmarkRetrievalError, match="no group holds 'keypoints'"):
        group_names(tmp_path / "global.h5")


def test_images_beyond_the_table_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """And counted in the log."""
    write(tmp_path / "f.h5", {"db/stranger.jpg": {}})
    with caplog.at_level("WARNING"):
        take(tmp_path / "f.h5", tmp_path)
    assert "1 images are not in the table and are left out" in caplog.text

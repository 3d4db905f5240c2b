from __future__ import annotations

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from benchmarks.synthetic_gldv2 import (
    SyntheticConfig,
    draw_landmark,
    label_sizes,
    main,
    photograph,
    plan_synthetic,
    write_synthetic,
)
from click.testing import CliRunner

from landmark_retrieval.collection import prepare_image_table, relevant_index_rows
from landmark_retrieval.collection.gldv2 import read_gldv2
from landmark_retrieval.errors import LandmarkRetrievalError

SMALL = SyntheticConfig(scale=20_000, side=96, min_scored=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic")
    write_synthetic(folder, SMALL, threads=1)
    return folder


def digests(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_it_is_read_like_the_data_set_and_all_images_are_there(folder: Path) -> None:
    table = prepare_image_table(read_gldv2(folder))
    assert table["split"].value_counts().to_dict() == {"query": 6, "index": 38, "train": 207}
    assert all(Path(path).is_file() for path in table["path"])
    assert cv2.imread(table["path"].iloc[0]).shape == (72, 96, 3)
    relevant = relevant_index_rows(table)
    usage = table["usage"].iloc[:6].to_numpy()
    assert sum(len(rows) > 0 for rows in relevant) == 4
    assert all((len(rows) > 0) == (use != "Ignored") for rows, use in zip(relevant, usage, strict=True))
    assert set(usage) == {"Public", "Private", "Ignored"}


def test_clean_images_are_a_part_of_the_train_images_with_the_same_labels(folder: Path) -> None:
    whole = read_gldv2(folder).set_index("image_id")
    clean = read_gldv2(folder, train="clean")
    clean = clean[clean["split"] == "train"].set_index("image_id")
    assert 0 < len(clean) < 207
    assert (whole.loc[clean.index, "landmark_id"] == clean["landmark_id"]).all()


def test_it_says_what_it_is(folder: Path) -> None:
    assert "This is not the data set" in (folder / "SYNTHETIC.txt").read_text()


def test_the_same_seed_gives_the_same_files(folder: Path, tmp_path: Path) -> None:
    write_synthetic(tmp_path / "again", SMALL, threads=3)
    assert digests(tmp_path / "again") == digests(folder)
    other = plan_synthetic(SMALL.model_copy(update={"seed": 1}))
    assert set(other.images["image_id"]).isdisjoint(plan_synthetic(SMALL).images["image_id"])


def test_proportions_of_the_published_data_set() -> None:
    plan = plan_synthetic(SyntheticConfig(scale=200))
    counts = plan.images["split"].value_counts()
    assert counts.to_dict() == {"train": 20_665, "index": 3_809, "query": 588}
    train = plan.images[plan.images["split"] == "train"]
    assert train["landmark"].nunique() == 1015
    assert plan.images["image_id"].is_unique
    assert plan.images["image_id"].str.fullmatch("[0-9a-f]{16}").all()
    kept = plan.clean["images"].str.split().str.len().sum()
    assert kept / len(train) == pytest.approx(1_580_470 / 4_132_914, abs=0.03)
    assert len(plan.clean) / 1015 == pytest.approx(81_313 / 203_094, abs=0.01)
    assert (plan.solution["Usage"] == "Ignored").mean() > 0.95


def test_sizes_of_labels_have_the_published_tail() -> None:
    sizes = label_sizes(203_094, 4_132_914, np.random.default_rng(0))
    assert sizes.sum() == 4_132_914
    assert sizes.min() >= 1
    assert (np.diff(sizes) <= 0).all()
    assert (sizes <= 5).mean() == pytest.approx(0.38, abs=0.05)
    assert (sizes <= 10).mean() == pytest.approx(0.57, abs=0.05)


@pytest.mark.parametrize(("landmarks", "images"), [(1, 1), (5, 3), (3, 1000), (100, 101)])
def test_sizes_of_labels_add_up(landmarks: int, images: int) -> None:
    sizes = label_sizes(landmarks, images, np.random.default_rng(1))
    assert len(sizes) == landmarks
    assert sizes.sum() == max(landmarks, images)
    assert sizes.min() >= 1


def test_lists_name_images_of_the_querys_own_drawing_only() -> None:
    plan = plan_synthetic(SyntheticConfig(scale=500, min_scored=150))
    landmark = plan.images.set_index("image_id")["landmark"]
    lists: dict[int, set[str]] = {}
    for row in plan.solution[plan.solution["Usage"] != "Ignored"].itertuples():
        images = str(row.images).split()
        assert set(landmark[images]) == {landmark[row.id]}
        lists.setdefault(int(landmark[row.id]), set()).add(str(row.images))
    assert any(len(different) > 1 for different in lists.values())


def matches(one: np.ndarray, other: np.ndarray) -> int:
    """Return the inliers of a homography between SIFT features (OpenCV alone)."""
    sift = cv2.SIFT_create(500)
    (p, d), (q, e) = (sift.detectAndCompute(image, None) for image in (one, other))
    pairs = cv2.BFMatcher(crossCheck=True).match(d, e)
    a = np.float32([p[pair.queryIdx].pt for pair in pairs])
    b = np.float32([q[pair.trainIdx].pt for pair in pairs])
    _, mask = cv2.findHomography(a, b, cv2.RANSAC, 4.0)
    return 0 if mask is None else int(mask.sum())


def test_views_of_one_drawing_match_and_others_do_not() -> None:
    drawings = [draw_landmark(np.random.default_rng(number), 384, 288) for number in range(4)]
    views = [
        [photograph(drawing, (256, 192), 0.08, np.random.default_rng([number, view])) for view in range(2)]
        for number, drawing in enumerate(drawings)
    ]
    same = [matches(one, other) for one, other in views]
    different = [matches(views[number][0], views[number - 1][1]) for number in range(4)]
    assert min(same) > 2 * max(different)
    assert min(same) >= 15


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(LandmarkRetrievalError, match="is not empty"):
        write_synthetic(tmp_path, SMALL)
    result = CliRunner().invoke(main, ["--out", str(tmp_path), "--scale", "50000"])
    assert result.exit_code == 1
    assert "is not empty; give an empty folder" in result.output


def test_the_command_says_what_it_made(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["--out", str(tmp_path / "x"), "--scale", "200000", "--side", "64"])
    assert result.exit_code == 0, result.output
    assert "synthetic GLDv2 at 1/200000" in result.output
    assert len(pd.read_csv(tmp_path / "x/index.csv")) == 4

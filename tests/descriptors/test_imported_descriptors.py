"""Imported descriptors: each row goes to its image, and what is wrong with a file is said in one line."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from landmark_retrieval.collection.revisited import read_ground_truth
from landmark_retrieval.descriptors import BlendConfig
from landmark_retrieval.descriptors.files import DescriptorFile, read_descriptors
from landmark_retrieval.descriptors.imported import (
    ImportConfig,
    check_descriptors,
    check_unit_rows,
    half_whitening,
    import_descriptors,
    match_ids,
    read_own_descriptors,
)
from landmark_retrieval.descriptors.matrix import Descriptors, normalize_rows
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.evaluation.revisited import RevisitedTruth, evaluate_revisited

PHOTOS = pd.DataFrame({"image_id": ["i2", "q1", "i1", "t1", "q0"], "path": "", "split": ""})
IMAGES = pd.DataFrame(
    {
        "image_id": ["q1", "q0", "i2", "i1", "t1"],
        "path": ["/d/q/1.jpg", "/d/q/0.jpg", "/d/i/2.jpg", "/d/i/1.jpg", "/d/t/1.png"],
        "split": ["query", "query", "index", "index", "train"],
    }
)


def content(ids: list[str] | None, rows: np.ndarray | None = None) -> DescriptorFile:
    """A file in which the row of an image is a unit vector along its number in `IMAGES`."""
    matrix = np.eye(5, dtype=np.float32) if rows is None else rows
    return DescriptorFile(Path("x.npy"), matrix, None if ids is None else np.array(ids), "ids in x.txt")


@pytest.mark.parametrize(
    ("ids", "order", "rows"),
    [
        (["t1", "i1", "i2", "q0", "q1"], "table", [4, 3, 2, 1, 0]),
        (None, "table", [1, 4, 0, 2, 3]),
        (None, "sorted", [3, 2, 1, 0, 4]),
        (None, "index_first", [2, 3, 0, 1, 4]),
    ],
)
def test_rows_go_to_their_images(ids: list[str] | None, order: str, rows: list[int]) -> None:
    """By the ids where there are some, else by the order that is named."""
    found, _ = import_descriptors(content(ids), PHOTOS, IMAGES, ImportConfig(order=order))
    assert found.ids.tolist() == IMAGES["image_id"].tolist()
    assert np.asarray(found.matrix).argmax(axis=1).tolist() == rows


@pytest.mark.parametrize(
    "given",
    [
        ["q1.jpg", "q0.jpg", "i2.jpg", "i1.jpg", "t1.jpg"],
        ["/d/q/1.jpg", "/d/q/0.jpg", "/d/i/2.jpg", "/d/i/1.jpg", "/d/t/1.png"],
        ["a/q1.png", "b/q0.png", "a/i2.png", "a/i1.png", "t1.png"],
    ],
)
def test_names_of_files_match_images(given: list[str]) -> None:
    """hloc names images by their files."""
    assert match_ids(np.array(given), IMAGES).tolist() == [0, 1, 2, 3, 4]


def test_names_that_fit_two_images_match_none() -> None:
    """`1.jpg` is the name of three images: guessing would give some of them another's row."""
    assert (match_ids(np.array(["x/1.jpg", "y/1.jpg", "z/0.jpg"]), IMAGES) < 0).all()


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["q1", "q0", "i2", "i1", "zz"], r"1 of 5 images have no row.*'t1'.*look like 'zz'"),
        (["q1", "q0", "i2", "i1", "q1"], r"'q1' is there twice \(row 4\)"),
    ],
)
def test_ids_that_do_not_fit_are_named(ids: list[str], message: str) -> None:
    """Images without a row and rows that are there twice."""
    with pytest.raises(LandmarkRetrievalError, match=message):
        import_descriptors(content(ids), PHOTOS, IMAGES, ImportConfig())


def test_rows_of_unknown_images_are_left_out_with_a_word(caplog: pytest.LogCaptureFixture) -> None:
    """A file may hold more images than the table."""
    rows = np.concatenate([np.eye(5, dtype=np.float32), np.ones((1, 5), np.float32)])
    with caplog.at_level(logging.WARNING):
        found, _ = import_descriptors(
            content([*IMAGES["image_id"], "more"], rows), PHOTOS, IMAGES, ImportConfig()
        )
    assert "1 rows belong to no image" in caplog.text
    assert "'more'" in caplog.text
    np.testing.assert_array_equal(found.matrix, np.eye(5))


@pytest.mark.parametrize(
    ("count", "reason"),
    [
        (6, "header line"),
        (4, "header|queries and index without"),
        (2, "index images alone|queries alone"),
        (9, "make the file anew"),
    ],
)
def test_another_number_of_rows_says_the_probable_reason(count: int, reason: str) -> None:
    """One row more or fewer, or a part of the images alone."""
    with pytest.raises(LandmarkRetrievalError, match=rf"{count} rows, but the image table has 5.*({reason})"):
        import_descriptors(content(None, np.ones((count, 3))), PHOTOS, IMAGES, ImportConfig())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rows_that_are_no_numbers_are_refused(value: float) -> None:
    """With the image that has them."""
    rows = np.eye(5, dtype=np.float32)
    rows[3, 2] = value
    with pytest.raises(LandmarkRetrievalError, match=r"1 images hold NaN or infinity.*'i1'"):
        import_descriptors(content(IMAGES["image_id"].tolist(), rows), PHOTOS, IMAGES, ImportConfig())


def test_zero_rows_are_none_and_other_lengths_are_scaled(caplog: pytest.LogCaptureFixture) -> None:
    """Both with a word; a file of zeros alone is refused."""
    rows = 3 * np.eye(5, dtype=np.float32)
    rows[4] = 0
    file = content(IMAGES["image_id"].tolist(), rows)
    with caplog.at_level(logging.WARNING):
        found, _ = import_descriptors(file, PHOTOS, IMAGES, ImportConfig())
    assert "1 images are zero, such as 't1'" in caplog.text
    assert "not normalised (lengths 3 to 3)" in caplog.text
    np.testing.assert_array_equal(np.linalg.norm(found.matrix, axis=1), [1, 1, 1, 1, 0])
    with pytest.raises(LandmarkRetrievalError, match="all rows are zero"):
        import_descriptors(content(None, np.zeros((5, 3))), PHOTOS, IMAGES, ImportConfig())


def test_check_unit_rows() -> None:
    """The first row of another length is named; zero rows and rounding pass."""
    rows = normalize_rows(np.random.default_rng(0).normal(size=(20, 8))).astype(np.float16)
    rows[3] = 0
    check_unit_rows(rows, "descriptors")
    with pytest.raises(LandmarkRetrievalError, match="row 7 has length 2"):
        check_unit_rows(np.where(np.arange(20)[:, None] == 7, 2 * rows, rows), "descriptors")
    with pytest.raises(LandmarkRetrievalError, match=r"shape \(8,\)"):
        check_unit_rows(rows[0], "descriptors")


@pytest.mark.parametrize(
    ("ids", "rows", "message"),
    [
        (["q0", "q1", "i2", "i1", "t1"], np.eye(5), "row 0 is 'q0' there but 'q1'"),
        (["q1", "q0", "i2", "i1"], np.eye(4), "4 rows there but 5"),
        (["q1", "q0", "i2", "i1", "t1"], 2 * np.eye(5), "row 0 has length 2"),
        (["q1", "q0", "i2", "i1", "t1"], np.ones(5), r"shape \(5,\)"),
    ],
)
def test_descriptors_of_the_library_are_checked(ids: list[str], rows: np.ndarray, message: str) -> None:
    """Another order, a row too few, another length, no matrix."""
    with pytest.raises(LandmarkRetrievalError, match=message):
        check_descriptors(Descriptors(np.array(ids), rows), IMAGES)


def test_configuration_takes_a_file_alone() -> None:
    """As `--params descriptors=FILE` gives it; several are joined by the path separator."""
    assert ImportConfig.model_validate("a.npy").files == ("a.npy",)
    assert ImportConfig.model_validate({"files": "a.npy:b.npy"}).files == ("a.npy", "b.npy")
    assert ImportConfig.model_validate(None).files == ()


def test_published_descriptors_give_the_known_figures(shared_data_sets: Path) -> None:
    """CaffeNet descriptors of Revisited Oxford, against figures that were computed without this project."""
    root = shared_data_sets / "roxford5k_fc7"
    if not root.is_dir():
        pytest.skip("no shared/data_sets/roxford5k_fc7 beside the checkout")
    truth = read_ground_truth(root / "gnd_roxford5k.pkl")
    ids = [*truth["qimlist"], *truth["imlist"]]
    queries = len(truth["qimlist"])
    images = pd.DataFrame({"image_id": ids, "path": ids, "split": "index"})
    images.loc[: queries - 1, "split"] = "query"
    judged = RevisitedTruth(
        *([np.asarray(query[kind], np.int64) for query in truth["gnd"]] for kind in ("easy", "hard", "junk"))
    )
    file = read_descriptors(root / "oxford_features.fvecs")
    for whitening, known in (("none", (28.89, 21.13, 4.60)), ("half", (30.04, 21.28, 4.34))):
        config = ImportConfig(order="sorted", whitening=whitening)
        matrix = np.asarray(import_descriptors(file, images, images, config)[0].matrix)
        ranking = np.argsort(-(matrix[:queries] @ matrix[queries:].T), axis=1, kind="stable")
        metrics = evaluate_revisited(ranking.astype(np.int32), judged)
        found = [100 * metrics[f"mAP_{protocol}"] for protocol in ("easy", "medium", "hard")]
        np.testing.assert_allclose(found, known, atol=0.05)


def test_half_whitening_makes_deviations_their_own_square_roots() -> None:
    """And leaves a dimension that does not vary as it is."""
    rows = np.random.default_rng(1).normal(size=(4000, 3)).astype(np.float32) * [16, 1, 0.25]
    rows = np.concatenate([rows, np.full((4000, 1), 7)], axis=1).astype(np.float32)
    whitened = rows / half_whitening(rows)
    np.testing.assert_allclose(whitened.std(axis=0)[:3], np.sqrt(rows.std(axis=0)[:3]), rtol=1e-3)
    np.testing.assert_array_equal(whitened[:, 3], 7)


def test_a_descriptor_that_is_searched_for_goes_the_way_of_the_index(tmp_path: Path) -> None:
    """Divided, scaled and blended alike; other numbers of files or of values are refused."""
    random = np.random.default_rng(5)
    files = [tmp_path / "a.npy", tmp_path / "b.npy"]
    raw = [random.normal(size=(5, 3)) * [9, 1, 0.1], random.normal(size=(5, 2))]
    for file, rows in zip(files, raw, strict=True):
        np.save(file, rows)
    config = ImportConfig(files=tuple(map(str, files)), whitening="half")
    weights = BlendConfig(weights=(2.0, 1.0))
    index, steps = read_own_descriptors(PHOTOS, IMAGES, config, weights)
    rows = [PHOTOS["image_id"].tolist().index(image) for image in IMAGES["image_id"]]
    np.testing.assert_allclose(steps.apply([part[rows] for part in raw], weights), index.matrix, atol=1e-6)
    for parts in ([raw[0]], [raw[1], raw[0]]):
        with pytest.raises(LandmarkRetrievalError, match="do not fit an index of 3 and 2"):
            steps.apply(parts, weights)

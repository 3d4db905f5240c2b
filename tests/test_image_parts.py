from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from landmark_retrieval.collection import prepare_image_table
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.images import (
    CroppedImage,
    TurnedImage,
    UnreadableImageError,
    content_digest,
    image_sources,
    load_image,
    source_contents,
    turned_source,
    upright_points,
)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.mark.parametrize(
    ("box", "inside"),
    [
        ((10, 20, 60, 80), (10, 20, 60, 80)),
        ((10.4, 19.6, 59.5, 80.2), (10, 20, 60, 80)),
        ((-5, -7, 60, 80), (0, 0, 60, 80)),
        ((100, 70, 500, 600), (100, 70, 120, 90)),
    ],
)
def test_a_part_of_an_image(photo: Path, box: tuple[float, ...], inside: tuple[int, ...]) -> None:
    part = load_image(CroppedImage(str(photo), box))  # type: ignore[arg-type]
    whole = np.asarray(Image.open(photo))
    np.testing.assert_array_equal(np.asarray(part), whole[inside[1] : inside[3], inside[0] : inside[2]])


def test_a_part_refers_to_the_upright_image(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    part = load_image(CroppedImage(str(tmp_path / "turned.png"), (0, 30, 40, 60)))
    np.testing.assert_array_equal(np.asarray(part), np.rot90(pixels, -1)[30:60, 0:40])


def test_a_part_is_decoded_at_full_size(tmp_path: Path) -> None:
    Image.new("RGB", (4000, 3000), "red").save(tmp_path / "large.jpg")
    source = CroppedImage(str(tmp_path / "large.jpg"), (1000, 1000, 1500, 1400))
    assert load_image(source, at_least=100).size == (500, 400)


@pytest.mark.parametrize("box", [(200, 0, 300, 50), (50, 10, 40, 80), (0, 0, 8, 80)])
def test_a_part_outside_or_too_small_is_unreadable(photo: Path, box: tuple[float, ...]) -> None:
    with pytest.raises(UnreadableImageError, match=r"outside|below 16"):
        load_image(CroppedImage(str(photo), box))  # type: ignore[arg-type]


def test_fingerprints_of_parts_contain_their_boxes(photo: Path) -> None:
    one, other = CroppedImage(str(photo), (0, 0, 50, 50)), CroppedImage(str(photo), (0, 0, 50, 51))
    content = content_digest(photo)
    read = source_contents([one, other, str(photo)])
    assert read == [[content, 0, 0, 50, 50], [content, 0, 0, 50, 51], [content]]
    known = source_contents([one, str(photo)], ["of one", "of photo"])
    assert known == [["of one", 0, 0, 50, 50], ["of photo"]]


def test_sources_of_a_table(photo: Path) -> None:
    raw = pd.DataFrame(
        {
            "image_id": ["i", "q"],
            "path": str(photo),
            "split": ["index", "query"],
            "landmark_id": 1,
            "crop": [None, "1 2.5 30 40"],
        }
    )
    table = prepare_image_table(raw)
    assert image_sources(table) == [CroppedImage(str(photo), (1.0, 2.5, 30.0, 40.0)), str(photo)]
    assert image_sources(table.iloc[[1]]) == [str(photo)]
    assert image_sources(table.drop(columns="crop")) == [str(photo), str(photo)]


@pytest.mark.parametrize("crop", ["1 2 3", "1 2 3 x", "1,2,3,4", "1 2 3 4 5"])
def test_a_crop_that_is_no_box_is_refused(crop: str) -> None:
    raw = pd.DataFrame(
        {
            "image_id": ["i", "q"],
            "path": ["p", "r"],
            "split": ["index", "query"],
            "landmark_id": 1,
            "crop": crop,
        }
    )
    with pytest.raises(LandmarkRetrievalError, match="is not four numbers"):
        prepare_image_table(raw)


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
@pytest.mark.parametrize("box", [None, (10, 20, 70, 80)])
def test_turned_images_and_the_way_back(photo: Path, turn: int, box: tuple[float, ...] | None) -> None:
    upright = CroppedImage(str(photo), box) if box else str(photo)  # type: ignore[arg-type]
    before = np.asarray(load_image(upright))
    after = np.asarray(load_image(turned_source(upright, turn)))
    np.testing.assert_array_equal(after, np.rot90(before, turn // 90))
    y, x = np.mgrid[: after.shape[0], : after.shape[1]].reshape(2, -1)
    points = np.stack([x, y], axis=1).astype(np.float32)
    back = upright_points(points, turn, before.shape[1::-1]).astype(int)
    np.testing.assert_array_equal(before[back[:, 1], back[:, 0]], after[y, x])


def test_turns_add_up_and_belong_to_the_fingerprint(photo: Path) -> None:
    source = turned_source(str(photo), 90)
    assert isinstance(source, TurnedImage)
    assert turned_source(source, 270) == str(photo)
    assert turned_source(source, 180) == TurnedImage(str(photo), 270)
    digest = content_digest(photo)
    assert source_contents([str(photo), source]) == [[digest], [digest, "turn 90"]]


def test_turns_of_a_table(photo: Path) -> None:
    table = pd.DataFrame({"path": [str(photo)] * 2, "crop": ["0 0 50 50", None], "turn": [180, 0]})
    turned = TurnedImage(CroppedImage(str(photo), (0, 0, 50, 50)), 180)
    assert image_sources(table) == [turned, str(photo)]

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from landmark_retrieval.reporting.thumbnails import placeholder, thumbnails


def test_sizes_and_placeholders(tmp_path: Path) -> None:
    Image.new("RGB", (400, 200), "red").save(tmp_path / "wide.png")
    Image.new("RGB", (40, 30), "blue").save(tmp_path / "small.jpg")
    (tmp_path / "text.jpg").write_text("no image")
    Image.new("RGB", (1, 1)).save(tmp_path / "tiny.png")
    names = {5: "wide.png", 2: "small.jpg", 9: "text.jpg", 1: "tiny.png", 7: "missing.jpg"}
    pictures = thumbnails({row: tmp_path / name for row, name in names.items()}, 100)
    assert list(pictures) == list(names)
    assert Image.open(io.BytesIO(pictures[5])).size == (100, 50)
    assert Image.open(io.BytesIO(pictures[2])).size == (40, 30)
    grey = placeholder(100)
    assert pictures[9] == pictures[1] == pictures[7] == grey
    pixels = np.asarray(Image.open(io.BytesIO(grey)))
    assert pixels.shape == (100, 100, 3) and np.ptp(pixels) == 0
    assert all(Image.open(io.BytesIO(picture)).format == "JPEG" for picture in pictures.values())


def test_none() -> None:
    assert thumbnails({}, 100) == {}

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from kedro.io import DataCatalog, DatasetError

from landmark_retrieval.collection import prepare_collection, prepare_image_table, read_image_folder
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.io import ImageFolderDataset


def test_loads_the_raw_table(tiny_data_set: Callable[..., Path]) -> None:
    folder = tiny_data_set()
    catalog = DataCatalog.from_config(
        {"photos": {"type": "landmark_retrieval.io.ImageFolderDataset", "filepath": str(folder)}}
    )
    assert catalog.exists("photos") and str(folder) in str(catalog["photos"])
    raw = catalog.load("photos")
    assert raw.table.equals(read_image_folder(folder))
    assert prepare_image_table(raw.table)["image_id"].is_unique


def test_errors_are_one_line_and_name_the_folder(tmp_path: Path) -> None:
    entry = ImageFolderDataset(filepath=str(tmp_path / "nowhere"))
    assert not entry.exists()
    with pytest.raises(DatasetError) as caught:
        entry.load()
    assert isinstance(caught.value, LandmarkRetrievalError)
    assert "nowhere" in str(caught.value) and "\n" not in str(caught.value)


def test_paths_outside_need_permission(tiny_data_set: Callable[..., Path]) -> None:
    folder = tiny_data_set()
    table = folder / "images.csv"
    table.write_text(table.read_text().replace("images/distractor_0.png", "../x.png"))
    with pytest.raises(LandmarkRetrievalError, match="allow_outside"):
        prepare_collection(ImageFolderDataset(filepath=str(folder)).load())
    assert len(ImageFolderDataset(filepath=str(folder), allow_outside=True).load().table) == 17


def test_photos_are_read_only(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="read-only"):
        ImageFolderDataset(filepath=str(tmp_path)).save("anything")


def test_preview_is_a_small_table(tiny_data_set: Callable[..., Path]) -> None:
    preview = ImageFolderDataset(filepath=str(tiny_data_set())).preview(nrows=3)
    assert len(preview["data"]) == 3 and "image_id" in preview["columns"]

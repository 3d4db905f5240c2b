"""The catalog entry of the store: a handle for nodes, never an output."""

from pathlib import Path

import pytest

from landmark_retrieval.io import ArtifactError, StoreDataset


def test_each_load_gives_a_handle_of_its_own(tmp_path: Path) -> None:
    entry = StoreDataset(filepath=str(tmp_path / "store"))
    first, second = entry.load(), entry.load()
    assert entry.exists() and first is not second
    assert first.folder.url == str(tmp_path / "store")


def test_nothing_is_saved_to_it(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="the store is an input"):
        StoreDataset(filepath=str(tmp_path)).save(1)

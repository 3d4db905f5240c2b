"""Digests of photos: read once, by path, size and time of change."""

import hashlib
import os
from pathlib import Path

import pandas as pd
import pytest

from landmark_retrieval.collection import digest_photos
from landmark_retrieval.images import image_sources, photo_keys
from landmark_retrieval.runtime.store import Store


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    paths = [tmp_path / f"{number}.jpg" for number in range(4)]
    for number, path in enumerate(paths):
        path.write_bytes(b"photo" + bytes([number]))
    return pd.DataFrame({"path": [str(path) for path in paths], "crop": [None, "1 2 30.5 40", None, None]})


def run(table: pd.DataFrame, root: Path) -> tuple[list[str], list[str], int]:
    store = Store(str(root))
    contents = digest_photos(table, store)
    return contents.digests.tolist(), contents.keys.tolist(), store.work[0].computed


def test_digests_are_those_of_the_bytes_and_read_once(table: pd.DataFrame, tmp_path: Path) -> None:
    expected = [hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16] for path in table["path"]]
    for computed in (4, 0):
        digests, keys, read = run(table, tmp_path / "store")
        assert digests == expected and read == computed
        assert keys == [expected[0], f"{expected[1]}@1.0,2.0,30.5,40.0", *expected[2:]]
    Path(table["path"][2]).write_bytes(b"another")
    os.utime(table["path"][3], (1, 1))
    assert run(table, tmp_path / "store")[2] == 2


def test_missing_files_have_no_key_and_come_back(table: pd.DataFrame, tmp_path: Path) -> None:
    path = Path(table["path"][0])
    content = path.read_bytes()
    path.unlink()
    digests, keys, _ = run(table, tmp_path / "store")
    assert digests[0] == keys[0] == "" and all(keys[1:])
    path.write_bytes(content)
    assert all(run(table, tmp_path / "store")[1])
    only_missing = table.iloc[:1].assign(path=str(tmp_path / "none.jpg"))
    assert run(only_missing, tmp_path / "store")[1] == [""]


def test_a_turn_is_part_of_the_key(table: pd.DataFrame) -> None:
    turned = photo_keys(image_sources(table.assign(turn=[0, 90, 180, 270])))
    upright = photo_keys(image_sources(table))
    suffixes = [key.removeprefix(plain) for key, plain in zip(turned, upright, strict=True)]
    assert suffixes == ["", "+90", "+180", "+270"]

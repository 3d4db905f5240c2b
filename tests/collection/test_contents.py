import hashlib
import os
from pathlib import Path

import pandas as pd
import pytest

from landmark_retrieval.collection import contents, plan_image_contents, read_image_contents
from landmark_retrieval.images import content_digest
from landmark_retrieval.runtime.sharding import ExecutorConfig, ShardStore


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "SHARD_SIZE", 2)


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    (tmp_path / "photos").mkdir()
    paths = [tmp_path / "photos" / f"{number}.jpg" for number in range(5)]
    for number, path in enumerate(paths[:4]):
        path.write_bytes(bytes([number]) * 100_000)
    return pd.DataFrame({"image_id": list("abcde"), "path": [str(path) for path in paths]})


def read(table: pd.DataFrame, folder: Path, executor: ExecutorConfig | None = None) -> list[str]:
    store = ShardStore(str(folder / "store"))
    store.run(plan_image_contents(table, executor))
    return read_image_contents(store).tolist()


def names(folder: Path) -> set[str]:
    return {file.name for file in (folder / "store").glob("*.npz")}


@pytest.mark.parametrize("backend", ["sequential", "loky"])
def test_digests_are_of_the_bytes_in_the_order_of_the_table(
    table: pd.DataFrame, tmp_path: Path, backend: str
) -> None:
    expected = [hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16] for path in table["path"][:4]]
    executor = ExecutorConfig.model_validate({"backend": backend, "workers": 2})
    assert read(table, tmp_path, executor) == [*expected, ""], "the last file is missing"
    assert content_digest(table["path"][0]) == expected[0]


def test_no_photos(tmp_path: Path) -> None:
    assert read(pd.DataFrame({"image_id": [], "path": []}), tmp_path) == []


def test_only_what_looks_changed_is_read_and_only_what_is_changes(
    table: pd.DataFrame, tmp_path: Path
) -> None:
    before, files = read(table, tmp_path), names(tmp_path)
    os.utime(table["path"][0], (1, 1))
    assert read(table, tmp_path) == before, "a touched file keeps its digest"
    assert len(names(tmp_path) - files) == 1, "and only its shard was read again"
    Path(table["path"][3]).write_bytes(b"another photo")
    Path(table["path"][4]).write_bytes(b"a photo that was missing")
    after = read(table, tmp_path)
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, True, True, False, False]

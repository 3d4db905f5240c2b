from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kedro.io import DataCatalog, DatasetError

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.io import ShardedDataset
from landmark_retrieval.runtime.sharding import ShardPlan, ShardTask


def compute(number: int) -> dict[str, np.ndarray]:
    return {"rows": np.arange(3) + 3 * number}


def fail() -> dict[str, np.ndarray]:
    raise LandmarkRetrievalError("extractor: weights file is missing")


def plan(shards: int = 3) -> ShardPlan:
    tasks = [ShardTask(f"{number:05d}", "f" * 16, partial(compute, number)) for number in range(shards)]
    return ShardPlan("numbers", tasks, metadata={"dimensions": 3})


def refusal(action: Any, *args: Any) -> str:
    with pytest.raises(DatasetError) as caught:
        action(*args)
    assert isinstance(caught.value, LandmarkRetrievalError)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_save_runs_the_plan_and_load_gives_the_store(tmp_path: Path) -> None:
    entry = ShardedDataset(filepath=str(tmp_path / "numbers"))
    assert not entry.exists()
    entry.save(plan())
    assert entry.exists()
    assert np.concatenate([shard["rows"] for shard in entry.load()]).tolist() == list(range(9))


def test_remote_paths(tmp_path: Path) -> None:
    entry = ShardedDataset(filepath="memory://numbers-of-a-test")
    entry.save(plan())
    assert entry.exists() and len(entry.load()) == 3
    assert entry.load().root == "memory://numbers-of-a-test"


def test_nothing_stored(tmp_path: Path) -> None:
    assert "run its pipeline first" in refusal(ShardedDataset(filepath=str(tmp_path / "none")).load)


def test_only_plans_are_taken(tmp_path: Path) -> None:
    assert "ShardPlan" in refusal(ShardedDataset(filepath=str(tmp_path)).save, {"rows": 1})


def test_messages_for_users_are_passed_on(tmp_path: Path) -> None:
    entry = ShardedDataset(filepath=str(tmp_path / "numbers"))
    assert (
        refusal(entry.save, ShardPlan("x", [ShardTask("0", "f", fail)]))
        == "extractor: weights file is missing"
    )
    assert not entry.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"fingerprint": "x"}', "\x00"])
def test_a_damaged_manifest_is_named(tmp_path: Path, text: str) -> None:
    entry = ShardedDataset(filepath=str(tmp_path / "numbers"))
    entry.save(plan())
    manifest = tmp_path / "numbers" / "manifest.json"
    manifest.write_text(text)
    message = refusal(entry.load)
    assert str(manifest) in message and "delete it and run its pipeline again" in message


def test_missing_shards_are_counted_and_computed_again(tmp_path: Path) -> None:
    entry = ShardedDataset(filepath=str(tmp_path / "numbers"))
    entry.save(plan())
    shard = json.loads((tmp_path / "numbers" / "manifest.json").read_text())["shards"][1]
    (tmp_path / "numbers" / shard).unlink()
    message = refusal(entry.load)
    assert "1 of 3" in message and shard in message
    entry.save(plan())
    assert len(list(entry.load())) == 3


@pytest.mark.parametrize("keep", [0, 10, 100, -30])
def test_a_damaged_shard_is_named(tmp_path: Path, keep: int) -> None:
    entry = ShardedDataset(filepath=str(tmp_path / "numbers"))
    entry.save(plan())
    shard = next((tmp_path / "numbers").glob("00001*.npz"))
    shard.write_bytes(shard.read_bytes()[:keep])
    with pytest.raises(LandmarkRetrievalError, match="delete it and run its pipeline again") as caught:
        list(entry.load())
    assert str(shard) in str(caught.value) and "\n" not in str(caught.value)
    shard.unlink()
    entry.save(plan())
    assert len(list(entry.load())) == 3


def test_in_a_catalog_with_a_preview(tmp_path: Path) -> None:
    catalog = DataCatalog.from_config(
        {
            "numbers": {
                "type": "landmark_retrieval.io.ShardedDataset",
                "filepath": str(tmp_path / "numbers"),
                "metadata": {"kedro-viz": {"layer": "feature"}},
            }
        }
    )
    catalog.save("numbers", plan())
    assert len(catalog.load("numbers")) == 3
    assert str(tmp_path / "numbers") in str(catalog["numbers"])
    data = dict(catalog["numbers"].preview()["data"])
    assert data["shards"] == 3 and data["dimensions"] == "3"

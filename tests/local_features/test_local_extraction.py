"""Shards of local features and reading them back, with the fastest extractor."""

import io
import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from landmark_retrieval.descriptors import Whitening
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.images import UnreadableImageError, image_sources, load_image, photo_keys
from landmark_retrieval.local_features import (
    LocalFeatureStore,
    extract_features,
    extract_local_features,
    extraction,
    local_parameters,
)
from landmark_retrieval.local_features import store as store_module
from landmark_retrieval.local_features.extraction import compute_shard
from landmark_retrieval.runtime.shard_arrays import ShardArrays
from landmark_retrieval.runtime.sharding import ExecutorConfig
from landmark_retrieval.runtime.store import Store

FIELDS = ("keypoints", "descriptors", "scores", "scales")


@pytest.fixture
def table(demo_root, tmp_path):
    """Eight images in shards of three, the fifth to seventh unusable or blank."""
    photos = sorted((demo_root / "images").glob("*.jpg"))[:5]
    paths = [shutil.copy(photo, tmp_path / photo.name) for photo in photos]
    (tmp_path / "text.jpg").write_text("no photo")
    (tmp_path / "cut.jpg").write_bytes(photos[0].read_bytes()[:3000])
    Image.new("RGB", (64, 48), "blue").save(tmp_path / "blank.png")
    paths[4:4] = [tmp_path / "text.jpg", tmp_path / "cut.jpg", tmp_path / "blank.png"]
    return pd.DataFrame(
        {"image_id": [f"image{i}" for i in range(8)], "path": [str(path) for path in paths], "split": "index"}
    )


@pytest.fixture
def config(make_config):
    return make_config("sift", max_side=160, max_keypoints=60)


def extract(table, config, root, **options):
    store = Store(str(root))
    return store, extract_local_features(table, photo_keys(image_sources(table)), store, config, **options)


@pytest.fixture
def stored(table, config, tmp_path):
    return extract(table, config, tmp_path / "store")[1]


def shards(root):
    return {
        file: file.stat().st_mtime_ns
        for file in (root / "local_features").rglob("*.npz")
        if file.name != "index.npz"
    }


def test_every_row_equals_direct_extraction(stored, table, config, tmp_path):
    features = LocalFeatureStore(stored)
    assert (features.images, features.dimensions, features.extractor) == (8, 128, "sift")
    assert len(shards(tmp_path / "store")) == 3
    for row in (7, 0, 3, 2, 1):
        expected = extract_features(load_image(table["path"].iloc[row]), config)
        found = features.get(row)
        assert found.size == expected.size
        assert len(found) > 20
        for field in FIELDS:
            np.testing.assert_array_equal(getattr(found, field), getattr(expected, field))
            assert getattr(found, field).dtype == getattr(expected, field).dtype


def test_unreadable_images_are_recorded_and_have_no_features(stored):
    features = LocalFeatureStore(stored)
    assert stored.skipped.tolist() == [4, 5]
    assert "cannot be decoded" in stored.reasons[0]
    assert "truncated" in stored.reasons[1]
    for row, size in ((4, (0, 0)), (5, (0, 0)), (6, (64, 48))):
        assert len(features.get(row)) == 0
        assert features.get(row).descriptors.shape == (0, 128)
        assert features.get(row).size == size


def test_unreadable_images_alone(table, config, tmp_path):
    _, stored = extract(table.iloc[[4, 5]].reset_index(drop=True), config, tmp_path / "bad")
    assert len(stored.skipped) == 2
    assert len(LocalFeatureStore(stored).get(1)) == 0


def test_missing_photos_are_not_kept_and_come_back(table, config, tmp_path):
    path = Path(table["path"].iloc[7])
    content = path.read_bytes()
    path.unlink()
    _, stored = extract(table, config, tmp_path / "store")
    assert stored.skipped.tolist() == [4, 5, 7] and stored.reasons[2] == "file not found"
    assert len(LocalFeatureStore(stored).get(7)) == 0
    path.write_bytes(content)
    store, stored = extract(table, config, tmp_path / "store")
    assert store.work[0].computed == 1 and stored.skipped.tolist() == [4, 5]
    assert len(LocalFeatureStore(stored).get(7)) > 20


def test_a_photo_that_may_not_be_opened_is_not_kept(table, config, tmp_path, monkeypatch):
    refused, load = table["path"].iloc[2], extraction.load_image

    def refuse(source):
        if source == refused:
            raise UnreadableImageError("cannot be read (Permission denied)", passing=True)
        return load(source)

    monkeypatch.setattr(extraction, "load_image", refuse)
    _, stored = extract(table, config, tmp_path / "store")
    assert dict(zip(stored.skipped, stored.reasons, strict=True))[2].startswith("cannot be read")
    monkeypatch.undo()
    store, stored = extract(table, config, tmp_path / "store")
    assert store.work[0].computed == 1 and 2 not in stored.skipped


def test_only_new_and_changed_photos_are_extracted(stored, table, config, tmp_path):
    def computed(table):
        return extract(table, config, tmp_path / "store")[0].work[0].computed

    before = shards(tmp_path / "store")
    assert computed(table) == 0
    renamed = table.iloc[::-1].reset_index(drop=True)
    for row, path in enumerate(renamed["path"]):
        renamed.loc[row, "path"] = str(Path(path).rename(tmp_path / f"renamed-{row}{Path(path).suffix}"))
    assert computed(renamed) == 0 and computed(renamed.iloc[2:]) == 0
    Image.new("RGB", (100, 90), "red").save(renamed["path"].iloc[3])
    assert computed(renamed) == 1
    after = shards(tmp_path / "store")
    assert {file: after[file] for file in before} == before, "nothing that is stored is touched"


def test_only_what_a_deleted_shard_held_is_computed_again(stored, table, config, tmp_path):
    victim = sorted(shards(tmp_path / "store"))[1]
    content = victim.read_bytes()
    held = len(np.load(victim)["keys"])
    victim.unlink()
    store, _ = extract(table, config, tmp_path / "store")
    assert store.work[0].computed == held
    assert len(content) > 1000


def test_whatever_changes_features_changes_the_namespace(config, make_config):
    base = {"name": "sift", "max_side": 160, "max_keypoints": 60}
    assert local_parameters(make_config(**base)) == local_parameters(config)
    others = [
        make_config(**{**base, "max_side": 161}),
        make_config(**{**base, "max_keypoints": 61}),
        make_config(**base, clahe=False),
        make_config(**base, contrast_threshold=0.02),
        make_config(**{**base, "name": "xfeat"}),
    ]
    pca = Whitening(np.zeros(128, np.float32), np.eye(128, 8, dtype=np.float32))
    prints = [
        json.dumps(one)
        for one in (
            local_parameters(config),
            local_parameters(config, pca),
            *map(local_parameters, others),
        )
    ]
    assert len(set(prints)) == len(prints)
    same = config.model_copy(update={"shard_size": 99, "train_images": False})
    assert local_parameters(same) == local_parameters(config)


def test_a_pca_sets_the_dimensions(table, config, tmp_path):
    pca = Whitening(np.full(128, 0.01, np.float32), np.eye(128, 8, dtype=np.float32))
    features = LocalFeatureStore(extract(table, config, tmp_path, pca=pca)[1])
    assert features.dimensions == 8
    assert features.get(0).descriptors.shape[1] == 8


def test_workers_give_the_same_features(stored, table, config, tmp_path):
    executor = ExecutorConfig(backend="threading", workers=2)
    other = LocalFeatureStore(extract(table, config, tmp_path / "other", executor=executor)[1])
    for row in range(8):
        for field in FIELDS:
            expected = getattr(LocalFeatureStore(stored).get(row), field)
            np.testing.assert_array_equal(getattr(other.get(row), field), expected)


def bytes_of(features):
    return sum(getattr(features, field).nbytes for field in FIELDS)


def test_the_cache_is_bounded(stored, monkeypatch):
    bytes_of_one = bytes_of(LocalFeatureStore(stored).get(0))
    features = LocalFeatureStore(stored, cache_bytes=2 * bytes_of_one)
    for row in (0, 1, 2, 3, 0, 7, 1):
        features.get(row)
        cache = features._cache
        assert row in cache.images
        held = sum(map(bytes_of, cache.images.values()))
        assert held == cache.held
        assert held <= 2 * bytes_of_one or len(cache.images) == 1
    reads, read = [], store_module.read_features
    monkeypatch.setattr(store_module, "read_features", lambda *given: reads.append(1) or read(*given))
    roomy = LocalFeatureStore(stored)
    for row in (0, 3, 1, 3, 0, 1):
        roomy.get(row)
    assert len(reads) == 3


def test_an_image_is_read_without_its_shard(stored, tmp_path):
    class Counting(io.FileIO):
        count = 0

        def read(self, size=-1):
            content = super().read(size)
            Counting.count += len(content)
            return content

        def readinto(self, buffer):
            size = super().readinto(buffer)
            Counting.count += size or 0
            return size

    path = sorted(shards(tmp_path / "store"))[0]
    with np.load(path) as shard:
        whole = {name: shard[name] for name in shard.files if name != "format"}
    with Counting(path) as file:
        arrays = ShardArrays(file)
        for name, expected in whole.items():
            assert arrays.rows(name).tobytes() == expected.tobytes()
            np.testing.assert_array_equal(arrays.rows(name, 1, 2), expected[1:2])
        Counting.count = 0
        arrays.rows("keys", 1, 2)
        assert Counting.count < 2000
        for name, start, stop in (("keys", 0, 10_000), ("keys", 2, 1), ("nothing", 0, 1)):
            with pytest.raises(ValueError, match=r"rows, not|no array"):
                arrays.rows(name, start, stop)


@pytest.mark.parametrize("keep", [0, 100, 2000, -40])
def test_a_shard_that_was_cut_is_healed_by_the_next_run(stored, table, config, tmp_path, keep):
    expected = [LocalFeatureStore(stored).get(row) for row in range(8)]
    for path in shards(tmp_path / "store"):
        path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(LandmarkRetrievalError, match="no longer holds the local features"):
        LocalFeatureStore(stored).get(0)
    _, again = extract(table, config, tmp_path / "store")
    for row in range(8):
        found = LocalFeatureStore(again).get(row)
        assert found.descriptors.tobytes() == expected[row].descriptors.tobytes()


def test_a_shard_that_is_damaged_in_use_is_named(stored, tmp_path):
    features = LocalFeatureStore(stored)
    features.get(0)
    for path in shards(tmp_path / "store"):
        path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(LandmarkRetrievalError, match=r"was damaged while it was in use .* run again"):
        features.get(3)


def test_what_is_sent_to_workers_is_small(stored):
    part = LocalFeatureStore(stored).take(np.array([1, 3, 7]))
    part.get(1)
    assert len(pickle.dumps(part.places)) < 1500
    expected = LocalFeatureStore(stored).get(7)
    np.testing.assert_array_equal(part.get(7).descriptors, expected.descriptors)


def test_chosen_rows(stored):
    rows = np.array([7, 0, 4, 1])
    chosen, everything = LocalFeatureStore(stored, rows=rows), LocalFeatureStore(stored)
    for i, row in enumerate(rows):
        assert chosen.get(i).descriptors.tobytes() == everything.get(int(row)).descriptors.tobytes()
        assert chosen.keys[i] == everything.keys[int(row)]


@pytest.mark.parametrize("row", [8, -1, 10_000])
def test_a_row_beyond_the_table_is_named(stored, row):
    features = LocalFeatureStore(stored)
    for ask in (features.get, lambda row: features.take(np.array([row]))):
        with pytest.raises(LandmarkRetrievalError, match=rf"no image row {row}, only 8.*features pipeline"):
            ask(row)


def test_train_images_can_be_left_out(table, config, tmp_path):
    table["split"] = ["query"] + ["index"] * 4 + ["train"] * 3
    searched = config.model_copy(update={"train_images": False})
    _, stored = extract(table, searched, tmp_path)
    features = LocalFeatureStore(stored)
    assert features.images == 5
    assert len(features.get(3)) > 20
    with pytest.raises(LandmarkRetrievalError, match="train_images: true"):
        features.get(5)


def test_beside_a_gpu_images_are_read_in_the_background(table, config, monkeypatch):
    """The way of reading alone: no device is touched by SIFT."""
    expected = compute_shard(table["path"].tolist(), config, Whitening.none(), False)
    monkeypatch.setattr(extraction, "choose_device", lambda: torch.device("cuda"))
    found = compute_shard(table["path"].tolist(), config, Whitening.none(), False)
    assert found.keys() == expected.keys()
    for name in found:
        np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_keypoints_of_a_turned_image_are_those_of_the_upright_one(table, config, tmp_path, turn):
    both = table.iloc[[0, 0]].reset_index(drop=True).assign(image_id=["upright", "turned"], turn=[0, turn])
    _, stored = extract(both, config, tmp_path / "turned")
    upright, turned = (LocalFeatureStore(stored).get(row) for row in (0, 1))
    assert turned.size == upright.size
    # SIFT describes a corner alike however it is turned, so most keypoints are found again where they were.
    distances = np.linalg.norm(turned.keypoints[:, None] - upright.keypoints[None], axis=2).min(axis=1)
    assert np.mean(distances < 3) > 0.7

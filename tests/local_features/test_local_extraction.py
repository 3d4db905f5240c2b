"""Shards of local features and reading them back, with the fastest extractor."""

import io
import pickle
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from landmark_retrieval.collection import skipped_images
from landmark_retrieval.descriptors import Whitening
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.images import content_digest, load_image
from landmark_retrieval.local_features import (
    LocalFeatureStore,
    extract_features,
    extraction,
    plan_local_extraction,
)
from landmark_retrieval.local_features.extraction import compute_shard
from landmark_retrieval.runtime.shard_arrays import ShardArrays
from landmark_retrieval.runtime.sharding import ExecutorConfig, ShardStore

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
    return pd.DataFrame({"image_id": [f"image{i}" for i in range(8)], "path": [str(path) for path in paths]})


@pytest.fixture
def config(make_config):
    return make_config("sift", max_side=160, max_keypoints=60)


@pytest.fixture
def store(table, config, tmp_path):
    store = ShardStore(str(tmp_path / "store"))
    store.run(plan_local_extraction(table, config))
    return store


def files(store, tmp_path):
    return {file.name: file.stat().st_mtime_ns for file in (tmp_path / "store").glob("*.npz")}


def test_every_row_equals_direct_extraction(store, table, config):
    features = LocalFeatureStore(store)
    assert (features.images, features.dimensions, features.extractor) == (8, 128, "sift")
    assert len(store) == 3
    for row in (7, 0, 3, 2, 1):
        expected = extract_features(load_image(table["path"].iloc[row]), config)
        found = features.get(row)
        assert found.size == expected.size
        assert len(found) > 20
        for field in FIELDS:
            np.testing.assert_array_equal(getattr(found, field), getattr(expected, field))
            assert getattr(found, field).dtype == getattr(expected, field).dtype


def test_unreadable_images_are_recorded_and_have_no_features(store):
    features = LocalFeatureStore(store)
    skipped = skipped_images(store)
    assert [image.row for image in skipped] == [4, 5]
    assert "cannot be decoded" in skipped[0].reason
    assert "truncated" in skipped[1].reason
    for row, size in ((4, (0, 0)), (5, (0, 0)), (6, (64, 48))):
        assert len(features.get(row)) == 0
        assert features.get(row).descriptors.shape == (0, 128)
        assert features.get(row).size == size


def test_a_shard_of_unreadable_images_alone(table, config, tmp_path):
    store = ShardStore(str(tmp_path / "bad"))
    store.run(plan_local_extraction(table.iloc[[4, 5]].reset_index(drop=True), config))
    assert len(skipped_images(store)) == 2
    assert len(LocalFeatureStore(store).get(1)) == 0


def test_only_a_deleted_shard_is_computed_again(store, table, config, tmp_path):
    before = files(store, tmp_path)
    victim = store.manifest()["shards"][1]
    content = (tmp_path / "store" / victim).read_bytes()
    (tmp_path / "store" / victim).unlink()
    with pytest.raises(LandmarkRetrievalError, match="missing"):
        LocalFeatureStore(store).get(3)
    store.run(plan_local_extraction(table, config))
    after = files(store, tmp_path)
    assert after.keys() == before.keys()
    assert [name for name in after if after[name] != before[name]] == [victim]
    with np.load(tmp_path / "store" / victim) as shard:
        assert shard["rows"].tolist() == [3, 4, 5]
    assert (tmp_path / "store" / victim).read_bytes() == content


def test_a_changed_photo_changes_its_shard_only(store, table, config):
    before = [task.fingerprint for task in plan_local_extraction(table, config).tasks]
    Image.new("RGB", (100, 90), "red").save(table["path"].iloc[7])
    after = [task.fingerprint for task in plan_local_extraction(table, config).tasks]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True, True, False]
    known = plan_local_extraction(table, config, contents=[content_digest(path) for path in table["path"]])
    assert [task.fingerprint for task in known.tasks] == after


def test_whatever_changes_features_changes_fingerprints(table, config, make_config):
    def first(config, pca=None):
        return plan_local_extraction(table, config, pca=pca).tasks[0].fingerprint

    base = {"name": "sift", "max_side": 160, "max_keypoints": 60}
    assert first(make_config(**base)) == first(config)
    others = [
        make_config(**{**base, "max_side": 161}),
        make_config(**{**base, "max_keypoints": 61}),
        make_config(**base, clahe=False),
        make_config(**base, contrast_threshold=0.02),
        make_config(**{**base, "name": "xfeat"}),
    ]
    pca = Whitening(np.zeros(128, np.float32), np.eye(128, 8, dtype=np.float32))
    prints = [first(config), first(config, pca), *map(first, others)]
    assert len(set(prints)) == len(prints)
    workers = plan_local_extraction(table, config, ExecutorConfig(backend="loky", workers=2))
    assert workers.tasks[0].fingerprint == first(config)


def test_a_pca_sets_the_dimensions(table, config, tmp_path):
    pca = Whitening(np.full(128, 0.01, np.float32), np.eye(128, 8, dtype=np.float32))
    store = ShardStore(str(tmp_path / "pca"))
    store.run(plan_local_extraction(table, config, pca=pca))
    features = LocalFeatureStore(store)
    assert features.dimensions == 8
    assert features.get(0).descriptors.shape[1] == features.get(4).descriptors.shape[1] == 8


def test_workers_give_the_same_shards(store, table, config, tmp_path):
    other = ShardStore(str(tmp_path / "other"))
    other.run(plan_local_extraction(table, config, ExecutorConfig(backend="threading", workers=2)))
    for name in store.manifest()["shards"]:
        assert (tmp_path / "store" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_the_cache_is_bounded_and_keeps_the_latest(store, monkeypatch):
    def bytes_of(features):
        return sum(getattr(features, field).nbytes for field in FIELDS)

    bytes_of_one = bytes_of(LocalFeatureStore(store).get(0))
    features = LocalFeatureStore(store, cache_bytes=2 * bytes_of_one)
    for row in (0, 3, 7, 0, 1, 2, 6, 0):
        features.get(row)
        assert row in features._cache
        held = sum(map(bytes_of, features._cache.values()))
        assert held == features._held
        assert held <= 2 * bytes_of_one or len(features._cache) == 1
    reads = []
    opened = ShardStore.open
    monkeypatch.setattr(ShardStore, "open", lambda self, name: reads.append(name) or opened(self, name))
    roomy = LocalFeatureStore(store)
    for row in (0, 3, 1, 3, 0, 1):
        roomy.get(row)
    assert len(reads) == 3


def test_an_image_is_read_without_its_shard(store):
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

    path = Path(store.root) / store.manifest()["shards"][0]
    with np.load(path) as shard:
        whole = {name: shard[name] for name in shard.files}
    with Counting(path) as file:
        arrays = ShardArrays(file)
        for name, expected in whole.items():
            assert arrays.rows(name).tobytes() == expected.tobytes()
            np.testing.assert_array_equal(arrays.rows(name, 1, 2), expected[1:2])
        Counting.count = 0
        arrays.rows("descriptors", 5, 6)
        assert Counting.count < 2000
        for name, start, stop in (("descriptors", 0, 10_000), ("rows", 2, 1), ("nothing", 0, 1)):
            with pytest.raises(ValueError, match=r"rows, not|no array"):
                arrays.rows(name, start, stop)


@pytest.mark.parametrize("keep", [0, 100, 2000, -40])
def test_a_cut_shard_is_named(store, keep):
    path = Path(store.root) / store.manifest()["shards"][0]
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(LandmarkRetrievalError, match=r"damaged .* delete it") as caught:
        LocalFeatureStore(store).get(0)
    assert str(path) in str(caught.value)


def test_a_store_is_picklable_without_its_cache(store):
    features = LocalFeatureStore(store)
    expected = features.get(0)
    size = len(pickle.dumps(features))
    again = pickle.loads(pickle.dumps(features))
    # Neither the cache nor the names of all shards travel with every task.
    assert size < 500 and not again._cache and features._cache
    np.testing.assert_array_equal(again.get(0).descriptors, expected.descriptors)


def test_chosen_rows(store):
    rows = np.array([7, 0, 4, 1])
    chosen, everything = LocalFeatureStore(store, rows=rows), LocalFeatureStore(store)
    for i, row in enumerate(rows):
        assert chosen.get(i).descriptors.tobytes() == everything.get(int(row)).descriptors.tobytes()
        assert chosen.fingerprint_of(i) == everything.fingerprint_of(int(row))


@pytest.mark.parametrize("row", [8, -1, 10_000])
def test_a_row_beyond_the_table_is_named(store, row):
    features = LocalFeatureStore(store)
    for ask in (features.get, features.fingerprint_of):
        with pytest.raises(LandmarkRetrievalError, match=rf"no image row {row}, only 8.*features pipeline"):
            ask(row)


def test_fingerprints_of_rows_follow_the_shards(store, table, config):
    before = [LocalFeatureStore(store).fingerprint_of(row) for row in range(8)]
    Image.new("RGB", (100, 90), "red").save(table["path"].iloc[7])
    store.run(plan_local_extraction(table, config))
    after = [LocalFeatureStore(store).fingerprint_of(row) for row in range(8)]
    assert [a == b for a, b in zip(before, after, strict=True)] == [True] * 6 + [False] * 2


def test_another_store_is_refused(tmp_path):
    from landmark_retrieval.runtime.sharding import ShardPlan

    store = ShardStore(str(tmp_path / "other"))
    with pytest.raises(LandmarkRetrievalError, match="no complete artifact"):
        LocalFeatureStore(store)
    store.run(ShardPlan("nothing", []))
    with pytest.raises(LandmarkRetrievalError, match="holds no local features"):
        LocalFeatureStore(store)


def test_train_images_can_be_left_out(table, config, tmp_path):
    table["split"] = ["query"] + ["index"] * 4 + ["train"] * 3
    store, searched = (
        ShardStore(str(tmp_path / "searched")),
        config.model_copy(update={"train_images": False}),
    )
    plan = plan_local_extraction(table, searched)
    known = plan_local_extraction(table, searched, contents=[content_digest(path) for path in table["path"]])
    assert [task.file_name for task in known.tasks] == [task.file_name for task in plan.tasks]
    store.run(plan)
    features = LocalFeatureStore(store)
    assert features.images == 5
    assert len(features.get(3)) > 20
    with pytest.raises(LandmarkRetrievalError, match="train_images: true"):
        features.get(5)


def test_beside_a_gpu_images_are_read_in_the_background(table, config, monkeypatch):
    """The way of reading alone: no device is touched by SIFT."""
    expected = compute_shard(0, table["path"].tolist(), config, Whitening.none(), False)
    monkeypatch.setattr(extraction, "choose_device", lambda: torch.device("cuda"))
    found = compute_shard(0, table["path"].tolist(), config, Whitening.none(), False)
    assert found.keys() == expected.keys()
    for name in found:
        np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_keypoints_of_a_turned_image_are_those_of_the_upright_one(table, config, tmp_path, turn):
    both = table.iloc[[0, 0]].reset_index(drop=True).assign(image_id=["upright", "turned"], turn=[0, turn])
    store = ShardStore(str(tmp_path / "turned"))
    store.run(plan_local_extraction(both, config))
    upright, turned = (LocalFeatureStore(store).get(row) for row in (0, 1))
    assert turned.size == upright.size
    # SIFT describes a corner alike however it is turned, so most keypoints are found again where they were.
    distances = np.linalg.norm(turned.keypoints[:, None] - upright.keypoints[None], axis=2).min(axis=1)
    assert np.mean(distances < 3) > 0.7

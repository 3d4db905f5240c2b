import os
import pickle
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional

from blas_threads import blas_threads
from landmark_retrieval.collection import skipped_images
from landmark_retrieval.descriptors import (
    BackboneConfig,
    DescriptorModel,
    GlobalDescriptorConfig,
    PoolingConfig,
    RegionWhiteningConfig,
    Whitening,
    apply_whitening,
    build_backbone,
    build_model,
    build_pooling,
    describe_images,
    gather_shards,
    learn_whitening,
    plan_global_extraction,
    plan_region_whitening,
    read_region_whitening,
    whitening_layer,
)
from landmark_retrieval.descriptors.extraction import region_moments
from landmark_retrieval.descriptors.loading import (
    ImageBatch,
    Unreadable,
    iterate_batches,
    load_scales,
    target_sizes,
)
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.images import content_digest, load_image
from landmark_retrieval.runtime.sharding import ExecutorConfig, ShardStore

TINY = BackboneConfig(name="test_resnet", weights="random")


def tiny(**options):
    return GlobalDescriptorConfig(
        **{"backbone": TINY, "max_side": 96, "size_multiple": 8, "shard_size": 3, "device": "cpu", **options}
    )


@pytest.fixture
def photos(save_image):
    sizes = [(90, 60), (60, 90), (90, 61), (200, 120), (90, 60), (300, 32), (91, 60)]
    return [save_image(f"{i}.png", *size, seed=i) for i, size in enumerate(sizes)]


def as_table(paths, splits=None, landmarks=None):
    n = len(paths)
    return pd.DataFrame(
        {
            "image_id": [f"image{i}" for i in range(n)],
            "path": paths,
            "split": splits or ["index"] * n,
            "landmark_id": pd.array(landmarks or [pd.NA] * n, dtype="Int64"),
        }
    )


RMAC = PoolingConfig(kind="rmac", power=None)


@pytest.mark.parametrize("pooling", [PoolingConfig(), RMAC])
def test_a_batch_gives_what_single_images_give(photos, pooling):
    config = tiny(pooling=pooling, batch_size=8)
    together, _ = describe_images(photos, config)
    alone = np.concatenate([describe_images([path], config)[0] for path in photos])
    np.testing.assert_allclose(together, alone, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=1e-5)


def test_multi_scale_descriptor_is_the_normalised_average_over_scales(photos):
    config = tiny(scales=(1.0, 0.5), size_multiple=1, scale_power=1.0)
    network = build_backbone(TINY)
    expected = []
    for path in photos[:3]:
        image = load_image(path)
        total = 0
        for scale in (1.0, 0.5):
            width, height = (max(32, round(side * scale)) for side in image.size)
            pixels = cv2.resize(np.asarray(image), (width, height), interpolation=cv2.INTER_AREA)
            x = torch.tensor(pixels / 255.0, dtype=torch.float32)
            x = ((x - torch.tensor(network.mean)) / torch.tensor(network.std)).permute(2, 0, 1)[None]
            with torch.no_grad():
                features = network(x)
            total = total + functional.normalize(features.clamp(min=1e-6).pow(2).mean((2, 3)).sqrt(), dim=1)
        expected.append(functional.normalize(total, dim=1)[0].numpy())
    np.testing.assert_allclose(describe_images(photos[:3], config)[0], expected, atol=1e-4)


def test_generalised_mean_over_scales(photos):
    one, two = (describe_images(photos[:2], tiny(scales=(s,)))[0] for s in (1.0, 2.0))
    both, _ = describe_images(photos[:2], tiny(scales=(1.0, 2.0), scale_power=3.0, region_whitening=None))
    expected = np.cbrt(one**3 + two**3)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(both, expected, atol=1e-4)
    with pytest.raises(LandmarkRetrievalError, match="scale_power"):
        tiny(scale_power=2.0, region_whitening=RegionWhiteningConfig())


def test_target_sizes_follow_from_the_rounded_first_scale():
    config = GlobalDescriptorConfig(max_side=480, size_multiple=16, scales=(1.0, 0.5, 1.5))
    assert target_sizes(4000, 3000, config) == ((480, 352), (240, 176), (720, 528))
    assert target_sizes(3000, 4000, config)[0] == (352, 480)
    assert target_sizes(200, 100, config)[0] == (192, 96)
    assert target_sizes(20000, 50, config)[0] == (480, 32)
    assert target_sizes(1, 1, config)[0] == (32, 32)


def test_batches_hold_one_shape_and_every_image_once(photos, tmp_path):
    broken = tmp_path / "text.jpg"
    broken.write_text("not an image")
    paths = [*photos, str(broken), str(tmp_path / "missing.jpg")]
    config = tiny(batch_size=2, loader_threads=3)
    items = list(iterate_batches(paths, config))
    seen = []
    for item in items:
        if isinstance(item, Unreadable):
            seen.append(item.position)
            assert item.position >= len(photos)
            continue
        assert isinstance(item, ImageBatch) and len(item.positions) <= 2
        seen += item.positions
        for pixels, position in zip(item.scales[0], item.positions, strict=True):
            np.testing.assert_array_equal(pixels, load_scales(paths[position], config)[0])
    assert sorted(seen) == list(range(len(paths)))
    again = list(iterate_batches(paths, config.model_copy(update={"loader_threads": 1})))
    assert [getattr(i, "positions", None) for i in items] == [getattr(i, "positions", None) for i in again]


def test_many_shapes_do_not_pile_up(save_image):
    paths = [save_image(f"{i}.png", 40 + 8 * i, 40) for i in range(20)]
    config = tiny(batch_size=1, max_side=400)
    assert len(list(iterate_batches(paths, config))) == 20
    config = tiny(batch_size=2, max_side=400)
    first = next(iter(iterate_batches(paths, config)))
    assert first.positions == (0,)


def test_shards_are_resumed_and_made_anew_when_something_changed(photos, tmp_path, save_image):
    table, config, store = as_table(photos), tiny(), ShardStore(str(tmp_path / "store"))
    plan = plan_global_extraction(table, config)
    assert [task.key for task in plan.tasks] == ["global-00000000", "global-00000003", "global-00000006"]
    store.run(plan)
    whole = np.asarray(gather_shards(store, len(table)))
    np.testing.assert_allclose(whole, describe_images(photos, config)[0], atol=1e-4)

    def names(table, config=config, whitening=None):
        return [task.file_name for task in plan_global_extraction(table, config, None, whitening).tasks]

    before = names(table)
    assert names(table) == before
    for same in ({"batch_size": 1}, {"loader_threads": 2}, {"storage": "float16"}, {"whitening": None}):
        assert names(table, config.model_copy(update=same)) == before
    for other in ({"max_side": 128}, {"scales": (1.0,)}, {"pooling": RMAC}):
        assert not set(names(table, config.model_copy(update=other))) & set(before)
    whitening = Whitening(np.zeros(96, np.float32), np.eye(96, dtype=np.float32))
    assert not set(names(table, whitening=whitening)) & set(before)
    os.utime(photos[4], (1, 1))
    assert names(table) == before
    known = plan_global_extraction(table, config, contents=[content_digest(path) for path in photos])
    assert [task.file_name for task in known.tasks] == before
    save_image("4.png", 90, 60, seed=44)
    changed = names(table)
    assert [a == b for a, b in zip(before, changed, strict=True)] == [True, False, True]

    failing = [
        task if task.file_name not in before else type(task)(task.key, task.fingerprint, _must_not_run)
        for task in plan_global_extraction(table, config).tasks
    ]
    store.run(type(plan)(plan.description, failing, plan.executor, plan.metadata))


def _must_not_run():
    raise AssertionError("a finished shard was computed again")


def test_tasks_travel_to_other_processes(photos):
    task = plan_global_extraction(as_table(photos), tiny()).tasks[0]
    shard = pickle.loads(pickle.dumps(task)).compute()
    assert shard["rows"].tolist() == [0, 1, 2] and shard["descriptors"].shape == (3, 96)


WORKERS = [("loky", 1), ("loky", 2), ("threading", 2), ("dask", 2)]


@pytest.mark.usefixtures("three_threads")
def test_workers_of_all_kinds_and_numbers_give_the_same_bytes(photos, tmp_path):
    """The networks of a process with all threads need not agree with them, those of workers must."""
    config, shards, threads = tiny(shard_size=2), [], blas_threads()
    table = as_table(photos, ["index"] * len(photos))
    for backend, workers in WORKERS:
        executor = ExecutorConfig(backend=backend, workers=workers)
        folder = tmp_path / f"{backend}-{workers}"
        whitening = ShardStore(str(folder / "whitening"))
        whitening.run(plan_region_whitening(table, config, executor))
        store = ShardStore(str(folder / "descriptors"))
        store.run(plan_global_extraction(table, config, executor, read_region_whitening(whitening)))
        shards.append({file.name: file.read_bytes() for file in folder.rglob("*.npz")})
    assert len(shards[0]) > 2
    assert all(other == shards[0] for other in shards[1:])
    assert blas_threads() == threads, "a limit was left behind"


def test_unreadable_images_give_zero_rows_and_reasons(photos, tmp_path, caplog):
    (tmp_path / "text.jpg").write_text("not an image")
    truncated = tmp_path / "truncated.png"
    truncated.write_bytes(Path(photos[0]).read_bytes()[:400])
    paths = [photos[0], str(tmp_path / "text.jpg"), photos[1], str(truncated), str(tmp_path / "none.jpg")]
    store = ShardStore(str(tmp_path / "store"))
    store.run(plan_global_extraction(as_table(paths), tiny()))
    matrix = np.asarray(gather_shards(store, 5))
    assert [bool(row.any()) for row in matrix] == [True, False, True, False, False]
    skipped = skipped_images(store)
    assert [image.row for image in skipped] == [1, 3, 4]
    assert "not found" in skipped[2].reason and "decoded" in skipped[0].reason
    assert "text.jpg" in caplog.text


def test_a_shard_of_unreadable_images_only(tmp_path):
    store = ShardStore(str(tmp_path / "store"))
    store.run(plan_global_extraction(as_table([str(tmp_path / "a.jpg")] * 2), tiny()))
    assert np.asarray(gather_shards(store, 2)).shape == (2, 96)
    assert len(skipped_images(store)) == 2


def learned_region_whitening(folder, table, config):
    store = ShardStore(str(folder))
    store.run(plan_region_whitening(table, config))
    return read_region_whitening(store)


def test_region_whitening_flattens_what_varies_within_an_image(photos, tmp_path):
    config = tiny(
        pooling=RMAC,
        region_whitening=RegionWhiteningConfig(min_images=2, shrinkage=0.05),
    )
    table = as_table(photos, ["query", "query"] + ["index"] * 5)
    whitening = learned_region_whitening(tmp_path, table, config)
    model = build_model(config, None)
    deviations, regions = [], []
    for item in iterate_batches(photos[2:], config.model_copy(update={"scales": (1.0,)})):
        x = torch.tensor(item.scales[0] / 255.0, dtype=torch.float32)
        x = ((x - torch.tensor(model.backbone.mean)) / torch.tensor(model.backbone.std)).permute(0, 3, 1, 2)
        with torch.no_grad():
            r = model.regions(x)
        regions.append(r.flatten(0, 1).numpy())
        deviations.append((r - r.mean(1, keepdim=True)).flatten(0, 1).numpy())
    np.testing.assert_allclose(whitening.mean, np.concatenate(regions).mean(0), atol=1e-4)
    covariance = np.cov(np.concatenate(deviations).T, bias=True)
    shrunk = 0.95 * covariance + 0.05 * np.trace(covariance) / 96 * np.eye(96)
    white = whitening.projection.T @ shrunk @ whitening.projection
    np.testing.assert_allclose(white, np.eye(96), atol=0.02)


def test_total_region_covariance_is_an_option_and_no_whitening_too(photos, tmp_path):
    table = as_table(photos)
    few = tiny(region_whitening=RegionWhiteningConfig(covariance="total", dimensions=4))
    total = learned_region_whitening(tmp_path, table, few)
    assert total.projection.shape == (96, 4)
    assert learned_region_whitening(tmp_path, table, tiny(region_whitening=None)).is_none
    _, _, images = region_moments(["missing.jpg", photos[0]], tiny())
    assert images == 1


def test_region_whitening_is_learned_once(photos, tmp_path):
    config, table = tiny(region_whitening=RegionWhiteningConfig(dimensions=4)), as_table(photos)
    (task,) = plan_region_whitening(table, config).tasks
    first = learned_region_whitening(tmp_path, table, config)
    (file,) = tmp_path.glob("region-whitening-*.npz")
    written = file.stat().st_mtime_ns
    np.testing.assert_array_equal(
        learned_region_whitening(tmp_path, table, config).projection, first.projection
    )
    assert file.stat().st_mtime_ns == written
    (other,) = plan_region_whitening(table.iloc[1:], config).tasks
    assert other.fingerprint != task.fingerprint


@pytest.mark.parametrize("pooling", [PoolingConfig(), RMAC])
def test_model_whitens_each_region_before_adding_them(pooling):
    backbone = build_backbone(TINY)
    rng = np.random.default_rng(0)
    whitening = Whitening(rng.random(96).astype(np.float32) / 20, rng.normal(size=(96, 7)).astype(np.float32))
    model = DescriptorModel(backbone, build_pooling(pooling), whitening_layer(whitening))
    images = torch.from_numpy(rng.normal(size=(2, 3, 64, 96)).astype(np.float32))
    with torch.no_grad():
        regions = build_pooling(pooling).regions(backbone(images)).numpy()
        ours = model(images).numpy()
    expected = []
    for image in regions:
        unit = image / np.linalg.norm(image, axis=1, keepdims=True)
        total = apply_whitening(unit, whitening).sum(0)
        expected.append(total / np.linalg.norm(total))
    np.testing.assert_allclose(ours, expected, atol=1e-4)
    assert model.width == 7


def test_model_is_trainable():
    model = DescriptorModel(build_backbone(TINY), build_pooling(PoolingConfig()), torch.nn.Linear(96, 8))
    model(torch.rand(2, 3, 64, 64))[:, 0].sum().backward()
    gradients = {name: p.grad is not None for name, p in model.named_parameters()}
    assert gradients["pooling.power"] and gradients["whitening.weight"]
    assert any(value for name, value in gradients.items() if name.startswith("backbone"))


def test_whitening_layer_of_another_network_is_refused():
    wrong = Whitening(np.zeros(5, np.float32), np.eye(5, dtype=np.float32))
    with pytest.raises(LandmarkRetrievalError, match="5-d regions, test_resnet gives 96"):
        build_model(tiny(), wrong)
    assert whitening_layer(Whitening.none()) is None


def test_missing_device_is_named():
    with pytest.raises(LandmarkRetrievalError, match="device: 'warp' is not available here"):
        describe_images([], tiny(device="warp"))


def test_two_runs_give_the_same_bytes(photos):
    first, second = (describe_images(photos, tiny())[0] for _ in range(2))
    assert first.tobytes() == second.tobytes()


def test_low_precision_stays_close(photos):
    exact, _ = describe_images(photos[:2], tiny())
    coarse, _ = describe_images(photos[:2], tiny(precision="bfloat16"))
    assert (exact * coarse).sum(1).min() > 0.99


def test_whitening_learned_on_labels_separates_landmarks():
    rng = np.random.default_rng(0)
    landmarks = np.repeat(np.arange(8), 12)
    nuisance = rng.normal(size=(96, 3)) @ rng.normal(size=(3, 20)) * 3
    x = rng.normal(size=(8, 20))[landmarks] + nuisance + 0.1 * rng.normal(size=(96, 20))
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    order = rng.permutation(96)
    table = as_table([""] * 96, ["query"] * 8 + ["index"] * 40 + ["train"] * 48, landmarks[order].tolist())
    x = x[order]
    config = GlobalDescriptorConfig().whitening
    y = apply_whitening(x, learn_whitening(x, table, config))

    def hits(z):
        nearest = (z[:8] @ z[8:48].T).argmax(1)
        return (landmarks[order][:8] == landmarks[order][8:48][nearest]).mean()

    assert hits(y) == 1.0 and hits(x) < 1.0

import os
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional

from blas_threads import blas_threads
from landmark_retrieval.collection import digest_photos
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
    describe_photos,
    learn_region_whitening,
    learn_whitening,
    whitening_layer,
)
from landmark_retrieval.descriptors.loading import (
    ImageBatch,
    Unreadable,
    iterate_batches,
    load_scales,
    target_sizes,
)
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.images import load_image
from landmark_retrieval.runtime.sharding import ExecutorConfig
from landmark_retrieval.runtime.store import Store

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


def test_batches_hold_one_shape_and_every_image_once(photos, tmp_path, monkeypatch):
    broken = tmp_path / "text.jpg"
    broken.write_text("not an image")
    paths = [*photos, str(broken), str(tmp_path / "missing.jpg")]
    config = tiny(batch_size=2)
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
    monkeypatch.setattr("landmark_retrieval.descriptors.loading.loader_threads", lambda _: 1)
    again = list(iterate_batches(paths, config))
    assert [getattr(i, "positions", None) for i in items] == [getattr(i, "positions", None) for i in again]


def test_many_shapes_do_not_pile_up(save_image):
    paths = [save_image(f"{i}.png", 40 + 8 * i, 40) for i in range(20)]
    config = tiny(batch_size=1, max_side=400)
    assert len(list(iterate_batches(paths, config))) == 20
    config = tiny(batch_size=2, max_side=400)
    first = next(iter(iterate_batches(paths, config)))
    assert first.positions == (0,)


def learn(table, store, config, executor=None):
    return learn_region_whitening(table, digest_photos(table, store), store, config, executor)


def described(table, config, store, executor=None, layer=None):
    contents = digest_photos(table, store)
    layer = learn_region_whitening(table, contents, store, config, executor) if layer is None else layer
    return describe_photos(table, contents, store, layer, config, executor)


def network_work(store):
    return sum(work.computed for work in store.work if work.unit == "photo")


@pytest.mark.parametrize("keep_regions", [True, False])
def test_only_new_and_changed_photos_meet_the_network(photos, tmp_path, save_image, keep_regions):
    config = tiny(keep_regions=keep_regions, region_whitening=RegionWhiteningConfig(max_images=4))
    table = as_table(photos)

    def run(table, config=config):
        store = Store(str(tmp_path / "store"))
        return described(table, config, store), network_work(store)

    first, computed = run(table)
    if keep_regions:
        assert computed == 7
    again, computed = run(table)
    assert computed == 0 and np.asarray(again.matrix).tobytes() == np.asarray(first.matrix).tobytes()
    for same in ({"batch_size": 1}, {"storage": "float16"}, {"whitening": None}):
        assert run(table, config.model_copy(update=same))[1] == 0
    os.utime(photos[4], (1, 1))
    assert run(table)[1] == 0
    assert run(table, config.model_copy(update={"max_side": 128}))[1] > 0
    assert run(table)[1] == 0, "going back costs nothing"
    if not keep_regions:
        return
    # Another layer costs no network: fewer photos, another sample, another order.
    assert run(table.iloc[[5, 3, 1, 0]])[1] == 0
    save_image("4.png", 90, 60, seed=44)
    save_image("new.png", 64, 64, seed=45)
    grown = as_table([*photos, str(tmp_path / "new.png")])
    assert run(grown)[1] == 2
    fresh = described(grown, config, Store(str(tmp_path / "fresh")))
    assert np.asarray(run(grown)[0].matrix).tobytes() == np.asarray(fresh.matrix).tobytes()


def test_both_ways_of_keeping_give_the_same_descriptors(photos, tmp_path):
    table = as_table(photos)
    for pooling in (PoolingConfig(), RMAC):
        kept, dropped = (
            described(
                table,
                tiny(pooling=pooling, scales=(1.0, 0.7), keep_regions=keep),
                Store(str(tmp_path / f"{keep}-{pooling.kind}")),
            )
            for keep in (True, False)
        )
        np.testing.assert_allclose(np.asarray(kept.matrix), np.asarray(dropped.matrix), atol=1e-6)


def test_a_photo_is_described_alike_in_any_batch(photos):
    """Not to a tolerance: the same bits, whatever shares its batch and wherever in it the photo stands."""
    config = tiny(scales=(1.0, 1.4), pooling=RMAC)
    same_shape = [photos[0], photos[4], photos[2], photos[6]]
    alone = [describe_images([photo], config)[0].tobytes() for photo in same_shape]
    for size, order in ((4, [0, 1, 2, 3]), (4, [3, 1, 0, 2]), (3, [2, 0, 1, 3]), (2, [1, 3, 2, 0])):
        batched, _ = describe_images(
            [same_shape[at] for at in order], config.model_copy(update={"batch_size": size})
        )
        assert [row.tobytes() for row in batched] == [alone[at] for at in order]


WORKERS = [("loky", 1), ("loky", 2), ("threading", 2)]


@pytest.mark.usefixtures("three_threads")
def test_workers_of_all_kinds_and_numbers_give_the_same_bytes(photos, tmp_path):
    """The networks of a process with all threads need not agree with them, those of workers must."""
    config, found, threads = tiny(shard_size=2), [], blas_threads()
    table = as_table(photos, ["index"] * len(photos))
    for backend, workers in WORKERS:
        executor = ExecutorConfig(backend=backend, workers=workers)
        raw = described(table, config, Store(str(tmp_path / f"{backend}-{workers}")), executor)
        found.append(np.asarray(raw.matrix).tobytes())
    assert all(other == found[0] for other in found[1:])
    assert blas_threads() == threads, "a limit was left behind"


@pytest.mark.parametrize("keep_regions", [True, False])
def test_unreadable_images_give_zero_rows_and_reasons(photos, tmp_path, caplog, keep_regions):
    (tmp_path / "text.jpg").write_text("not an image")
    truncated = tmp_path / "truncated.png"
    truncated.write_bytes(Path(photos[0]).read_bytes()[:400])
    paths = [photos[0], str(tmp_path / "text.jpg"), photos[1], str(truncated), str(tmp_path / "none.jpg")]
    for computed in (4, 0):
        store = Store(str(tmp_path / "store"))
        raw = described(as_table(paths), tiny(keep_regions=keep_regions), store)
        matrix = np.asarray(raw.matrix)
        assert [bool(row.any()) for row in matrix] == [True, False, True, False, False]
        assert raw.skipped.tolist() == [1, 3, 4]
        assert "not found" in raw.reasons[2] and "decoded" in raw.reasons[0]
        assert network_work(store) in (computed, 2 * computed)
    assert "text.jpg" in caplog.text


def test_unreadable_images_only(tmp_path):
    raw = described(as_table([str(tmp_path / "a.jpg")] * 2), tiny(), Store(str(tmp_path / "store")))
    assert np.asarray(raw.matrix).shape == (2, 96)
    assert len(raw.skipped) == 2


def test_region_whitening_flattens_what_varies_within_an_image(photos, tmp_path):
    config = tiny(
        pooling=RMAC,
        region_whitening=RegionWhiteningConfig(min_images=2, shrinkage=0.05),
    )
    table = as_table(photos, ["query", "query"] + ["index"] * 5)
    whitening = learn(table, Store(str(tmp_path)), config)
    model = build_model(config, None)
    deviations, regions = [], []
    for item in iterate_batches(photos[2:], config):
        x = torch.tensor(item.scales[0] / 255.0, dtype=torch.float32)
        x = ((x - torch.tensor(model.backbone.mean)) / torch.tensor(model.backbone.std)).permute(0, 3, 1, 2)
        with torch.no_grad():
            r = model.regions(x)
        regions.append(r.flatten(0, 1).numpy())
        deviations.append((r - r.mean(1, keepdim=True)).flatten(0, 1).numpy())
    np.testing.assert_allclose(whitening.mean, np.concatenate(regions).mean(0), atol=2e-4)
    covariance = np.cov(np.concatenate(deviations).T, bias=True)
    shrunk = 0.95 * covariance + 0.05 * np.trace(covariance) / 96 * np.eye(96)
    white = whitening.projection.T @ shrunk @ whitening.projection
    np.testing.assert_allclose(white, np.eye(96), atol=0.02)


def test_gem_learns_its_layer_on_regions_too(photos, tmp_path):
    table = as_table(photos)
    gem, rmac = (
        learn(table, Store(str(tmp_path / pooling.kind)), tiny(pooling=pooling))
        for pooling in (PoolingConfig(power=None), RMAC)
    )
    np.testing.assert_allclose(gem.mean, rmac.mean, atol=1e-6)


def test_total_region_covariance_is_an_option_and_no_whitening_too(photos, tmp_path):
    table, store = as_table(photos), Store(str(tmp_path))
    few = tiny(region_whitening=RegionWhiteningConfig(covariance="total", dimensions=4))
    assert learn(table, store, few).projection.shape == (96, 4)
    assert learn(table, store, tiny(region_whitening=None)).is_none


def test_region_whitening_is_learned_once(photos, tmp_path, monkeypatch):
    config, table = tiny(region_whitening=RegionWhiteningConfig(dimensions=4)), as_table(photos)
    first = learn(table, Store(str(tmp_path)), config)
    store = Store(str(tmp_path))
    np.testing.assert_array_equal(learn(table, store, config).projection, first.projection)
    assert not any(work.computed for work in store.work)
    store = Store(str(tmp_path))
    learn(table.iloc[1:], store, config)
    assert [work.unit for work in store.work if work.computed] == ["layer"]


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

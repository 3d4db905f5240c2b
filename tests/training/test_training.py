"""Training: repeatable, resumable to the last bit, and it learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from benchmarks.synthetic_gldv2 import draw_landmark
from PIL import Image

from landmark_retrieval.descriptors import BackboneConfig, GlobalDescriptorConfig, Whitening, describe_images
from landmark_retrieval.descriptors.extraction import fit_region_whitening
from landmark_retrieval.descriptors.pooling import PoolingConfig
from landmark_retrieval.descriptors.trained import load_trained, save_trained
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.training import TrainingConfig, TrainingPlan, plan_training
from landmark_retrieval.training.checkpoints import CHECKPOINT
from landmark_retrieval.training.loop import _Training

LANDMARKS, VIEWS = 4, 6


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Synthetic pictures of four landmarks; queries and index images do not exist on disk."""
    folder = tmp_path_factory.mktemp("training")
    rows = [("q", "none.jpg", "query", 0), ("i", "none.jpg", "index", 0)]
    for landmark in range(LANDMARKS):
        drawing = draw_landmark(np.random.default_rng(landmark), 128, 128)
        for view in range(VIEWS):
            name = f"{landmark}_{view}"
            width, height = (96, 72) if view % 2 else (72, 96)
            part = drawing[4 * view : 4 * view + height, 3 * view : 3 * view + width]
            Image.fromarray(part).save(folder / f"{name}.png")
            rows.append((name, str(folder / f"{name}.png"), "train", landmark))
    table = pd.DataFrame(rows, columns=["image_id", "path", "split", "landmark_id"])
    return table.astype({"landmark_id": "Int64"})


def descriptor(kind: str = "gem") -> GlobalDescriptorConfig:
    return GlobalDescriptorConfig(
        backbone=BackboneConfig(name="resnet10t", weights="random"),
        pooling=PoolingConfig(kind=kind, power=3.0 if kind == "gem" else None),
        max_side=64,
        device="cpu",
    )


def small(**options: object) -> TrainingConfig:
    values = {"epochs": 2, "max_side": 64, "learning_rate": 1e-3, "frozen": 0.0, "held_out": 0.34, **options}
    return TrainingConfig(**values)  # type: ignore[arg-type]


def layer() -> Whitening:
    return Whitening(np.zeros(512, np.float32), np.eye(512, 32, dtype=np.float32))


def curve(plan: TrainingPlan, folder: Path) -> list[tuple[int, str, float]]:
    values: list[tuple[int, str, float]] = []
    plan.run(folder, lambda metrics, epoch: values.extend((epoch, *item) for item in metrics.items()))
    return values


@pytest.mark.parametrize("loss", ["arcface", "contrastive", "triplet"])
def test_trained_twice_gives_the_same_curve(table: pd.DataFrame, tmp_path: Path, loss: str) -> None:
    plan = plan_training(table, descriptor(), layer(), small(loss=loss))
    first = curve(plan, tmp_path / "first")
    assert first == curve(plan, tmp_path / "second")
    assert [name for _, name, _ in first].count("loss") == 2
    assert all(np.isfinite(value) for *_, value in first)


def test_the_loss_falls_and_held_out_images_are_found(table: pd.DataFrame, tmp_path: Path) -> None:
    values = curve(
        plan_training(table, descriptor(), layer(), small(epochs=4, patience=9, learning_rate=1e-4)), tmp_path
    )
    losses = [value for _, name, value in values if name == "loss"]
    assert losses[-1] < losses[0]
    precisions = [value for _, name, value in values if name == "held_out_mAP"]
    assert len(precisions) == 5 and max(precisions) >= precisions[0]


class KilledError(Exception):
    """Stands for a kill between two steps."""


def test_killed_and_resumed_equals_uninterrupted(
    table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("landmark_retrieval.training.loop.CHECKPOINT_STEPS", 2)
    config = small(loss="contrastive", images_per_landmark=2, landmarks_per_batch=2)
    plan = plan_training(table, descriptor(), layer(), config)
    whole = plan.run(tmp_path / "whole")
    learn = "landmark_retrieval.training.loop._Training._learn"
    steps, original = [], _Training._learn

    def dying(self: object, *arguments: object, **named: object) -> float:
        steps.append(1)
        if len(steps) == 6:  # in the second epoch, or after a checkpoint inside an epoch
            raise KilledError
        return original(self, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(learn, dying)
    with pytest.raises(KilledError):
        plan.run(tmp_path / "killed")
    assert (tmp_path / "killed" / CHECKPOINT).exists()
    resumed = plan.run(tmp_path / "killed")
    assert len(steps) < 2 * 4 + 6, "it went on from the checkpoint"
    assert resumed.network.keys() == whole.network.keys() and resumed.power == whole.power
    assert all(torch.equal(resumed.network[name], value) for name, value in whole.network.items())
    assert resumed.whitening is not None and whole.whitening is not None
    assert torch.equal(resumed.whitening[0], whole.whitening[0])


def test_a_checkpoint_of_other_parameters_is_not_continued(table: pd.DataFrame, tmp_path: Path) -> None:
    plan_training(table, descriptor(), layer(), small(seed=1)).run(tmp_path)
    plan = plan_training(table, descriptor(), layer(), small(seed=2))
    assert curve(plan, tmp_path) == curve(plan, tmp_path / "alone")
    (tmp_path / CHECKPOINT).write_bytes(b"damaged")
    assert curve(plan, tmp_path)[-1] == curve(plan, tmp_path / "alone again")[-1]


def test_early_stopping(table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = iter([0.5, 0.6, 0.4, 0.3, 0.2, 0.1])
    monkeypatch.setattr("landmark_retrieval.training.loop.held_out_precision", lambda *_: next(values))
    epochs = curve(plan_training(table, descriptor(), layer(), small(epochs=9, patience=2)), tmp_path)
    assert max(epoch for epoch, *_ in epochs) == 3  # best after 1, then two without a better one


def test_only_train_images_are_read(table: pd.DataFrame) -> None:
    plan = plan_training(table, descriptor(), layer(), small())
    everything = [str(source) for source in (*plan.sources, *plan.held_out_sources)]
    assert len(everything) == len(set(everything)) == LANDMARKS * VIEWS
    assert "none.jpg" not in everything
    assert plan.held_out_labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    everyone = plan_training(table, descriptor(), layer(), small(held_out=0))
    assert len(everyone.labels) == LANDMARKS * VIEWS and not len(everyone.held_out_labels)


def test_too_few_landmarks(table: pd.DataFrame) -> None:
    alone = table[(table["landmark_id"] == 0) | (table["image_id"] == "1_0")].reset_index(drop=True)
    with pytest.raises(LandmarkRetrievalError, match="1 landmarks with two images or more, at least two"):
        plan_training(alone, descriptor(), layer(), small())


def test_frozen_layers_and_batch_statistics_stay(table: pd.DataFrame, tmp_path: Path) -> None:
    before = plan_training(table, descriptor(), layer(), small(epochs=1, learning_rate=1e-9)).run(
        tmp_path / "a"
    )
    after = plan_training(table, descriptor(), layer(), small(frozen=0.5, held_out=0)).run(tmp_path / "b")
    changed = {
        name for name, value in after.network.items() if not torch.allclose(value, before.network[name])
    }
    assert "conv1.0.weight" not in changed
    assert any(name.startswith("layer4") for name in changed)
    assert not any("running_" in name for name in changed)


def test_a_trained_file_is_used_for_description(table: pd.DataFrame, tmp_path: Path) -> None:
    file = tmp_path / "gem.safetensors"
    trained = plan_training(table, descriptor(), layer(), small(held_out=0)).run(tmp_path / "checkpoint")
    save_trained(trained, file)
    again = load_trained(file, "resnet10t")
    assert again.power == pytest.approx(trained.power) and again.power != 3.0
    config = descriptor().model_copy(update={"trained": True, "trained_file": str(file)})
    whitening = fit_region_whitening([], config)
    assert whitening.projection.shape == (512, 32)
    image = str(table["path"].iloc[2])
    described, _ = describe_images([image], config, whitening)
    weight, bias = trained.whitening or (torch.zeros(0), torch.zeros(0))
    x = torch.randn(5, 512)
    expected = x @ weight.T + bias
    assert np.allclose((x.numpy() - whitening.mean) @ whitening.projection, expected, atol=1e-4)
    untrained, _ = describe_images([image], descriptor(), layer())
    assert described.shape == untrained.shape and not np.allclose(described, untrained, atol=1e-3)


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(LandmarkRetrievalError, match="does not exist; make it with `kedro run --pip"):
        load_trained(tmp_path / "none.safetensors", "resnet10t")
    (tmp_path / "bad.safetensors").write_bytes(b"no tensors")
    with pytest.raises(LandmarkRetrievalError, match="is no safetensors file"):
        load_trained(tmp_path / "bad.safetensors", "resnet10t")
    with pytest.raises(LandmarkRetrievalError, match="trained: give the file in trained_file"):
        GlobalDescriptorConfig(trained=True)


def test_photos_are_digested_once(
    table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, module = [], "landmark_retrieval.training.loop"
    monkeypatch.setattr(f"{module}.source_contents", lambda sources: reads.append(len(sources)))
    monkeypatch.setattr(f"{module}.CHECKPOINT_STEPS", 1)
    plan = plan_training(table, descriptor(), layer(), small())
    plan.run(tmp_path)
    assert reads == [LANDMARKS * VIEWS]


def test_unreadable_training_images_do_not_stop_it(table: pd.DataFrame, tmp_path: Path) -> None:
    broken = table.copy()
    Image.new("RGB", (4, 4)).save(tmp_path / "tiny.png")
    broken.loc[broken["image_id"] == "1_1", "path"] = str(tmp_path / "tiny.png")
    assert curve(plan_training(broken, descriptor(), layer(), small(epochs=1)), tmp_path)

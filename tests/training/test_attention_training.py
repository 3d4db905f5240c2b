"""Training of DELF's attention head."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from landmark_retrieval.descriptors import BackboneConfig
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.io import AttentionDataset
from landmark_retrieval.local_features import LocalFeaturesConfig
from landmark_retrieval.local_features.config import DelfConfig, SiftConfig
from landmark_retrieval.training import AttentionPlan, AttentionTrainingConfig, plan_attention_training
from landmark_retrieval.training.checkpoints import CHECKPOINT


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    """Synthetic pictures: the landmark is the colour of a small square, everything else is noise."""
    random = np.random.default_rng(0)
    rows = [("q", "none.jpg", "query", 0), ("i", "none.jpg", "index", 0)]
    for landmark in range(2):
        for view in range(6):
            pixels = random.integers(90, 160, (96, 96, 3), dtype=np.uint8)
            left, top = random.integers(0, 64, 2)
            pixels[top : top + 32, left : left + 32] = ((255, 0, 0), (0, 0, 255))[landmark]
            file = tmp_path / f"{landmark}{view}.png"
            Image.fromarray(pixels).save(file)
            rows.append((file.stem, str(file), "train", landmark))
    table = pd.DataFrame(rows, columns=["image_id", "path", "split", "landmark_id"])
    return table.astype({"landmark_id": "Int64"})


def plan(table: pd.DataFrame, **options: object) -> AttentionPlan:
    backbone = BackboneConfig(name="tf_efficientnet_lite0", weights="package", stage=-2)
    features = LocalFeaturesConfig(extractor=DelfConfig(backbone=backbone), max_side=96)
    values = {
        "epochs": 5,
        "images_per_step": 4,
        "hidden": 16,
        "learning_rate": 0.02,
        "smallest_scale": 1.0,
        **options,
    }
    return plan_attention_training(table, features, AttentionTrainingConfig(**values))  # type: ignore[arg-type]


def test_the_head_learns_to_tell_landmarks_and_is_repeatable(table: pd.DataFrame, tmp_path: Path) -> None:
    curves: list[list[dict[str, float]]] = [[], []]
    heads = [
        plan(table).run(tmp_path / str(number), lambda values, _, curve=curve: curve.append(dict(values)))
        for number, curve in enumerate(curves)
    ]
    assert curves[0] == curves[1] and len(curves[0]) == 5
    assert curves[0][-1]["loss"] < curves[0][0]["loss"]
    assert curves[0][-1]["accuracy"] > 0.8
    assert all(torch.equal(a, b) for a, b in zip(heads[0].parameters(), heads[1].parameters(), strict=True))


def test_killed_after_an_epoch_and_resumed(table: pd.DataFrame, tmp_path: Path) -> None:
    whole = plan(table).run(tmp_path / "whole")

    def die(_: object, epoch: int) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plan(table).run(tmp_path / "killed", die)
    assert (tmp_path / "killed" / CHECKPOINT).exists()
    epochs: list[int] = []
    resumed = plan(table).run(tmp_path / "killed", lambda _, epoch: epochs.append(epoch))
    assert epochs == [2, 3, 4, 5]
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value)


def test_photos_are_digested_once(
    table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, module = [], "landmark_retrieval.training.attention"
    monkeypatch.setattr(f"{module}.source_contents", lambda sources: reads.append(len(sources)))
    plan(table, epochs=2).run(tmp_path)
    assert reads == [12]


def test_dataset_trains_and_gives_the_head(table: pd.DataFrame, tmp_path: Path) -> None:
    entry = AttentionDataset(filepath=str(tmp_path / "models" / "attention.pt"))
    assert not entry.exists()
    entry.save(plan(table, epochs=1))
    assert entry.exists()
    assert entry.load().hidden.weight.shape[0] == 16


def test_only_delf_has_an_attention_head(table: pd.DataFrame) -> None:
    with pytest.raises(LandmarkRetrievalError, match="extractor is 'sift'; only delf has an attention head"):
        plan_attention_training(table, LocalFeaturesConfig(extractor=SiftConfig()), AttentionTrainingConfig())

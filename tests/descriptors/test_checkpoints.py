"""Checkpoints in the key layouts of other projects, made here on small networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from click.testing import CliRunner

from landmark_retrieval.cli import cli
from landmark_retrieval.descriptors import BackboneConfig, GlobalDescriptorConfig
from landmark_retrieval.descriptors.checkpoints import read_checkpoint
from landmark_retrieval.descriptors.extraction import build_model
from landmark_retrieval.descriptors.pooling import PoolingConfig
from landmark_retrieval.errors import LandmarkRetrievalError

NUMBERS = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}


def random_network(architecture: str) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return dict(timm.create_model(architecture, num_classes=0).state_dict())


@pytest.fixture(scope="module")
def network() -> dict[str, torch.Tensor]:
    return random_network("resnet18")


def channels(network: dict[str, torch.Tensor]) -> int:
    """Width of the last block of a ResNet."""
    return max(len(value) for name, value in network.items() if name.startswith("layer4") and value.ndim)


def gem_checkpoint(
    network: dict[str, torch.Tensor], architecture: str = "resnet18", width: int = 8
) -> dict[str, Any]:
    state = {}
    for name, value in network.items():
        first, _, rest = name.partition(".")
        state[f"features.{NUMBERS[first]}.{rest}"] = value
    state |= {
        "pool.p": torch.tensor([2.75]),
        "whiten.weight": torch.randn(width, channels(network)),
        "whiten.bias": torch.randn(width),
    }
    meta = {
        "architecture": architecture,
        "pooling": "gem",
        "mean": [0.485, 0.456, 0.406],
        "Lw": {"sfm": {"ss": {"m": np.ones((4, 1)), "P": np.eye(4)}}},
    }
    return {"meta": meta, "state_dict": state}


def dir_checkpoint(
    network: dict[str, torch.Tensor], architecture: str = "resnet18", width: int = 6
) -> dict[str, Any]:
    state = {f"module.{name}": value for name, value in network.items()}
    state["module.adpool.p"] = torch.tensor([3.5])
    state["module.fc.weight"] = torch.randn(width, channels(network))
    state["module.fc.bias"] = torch.randn(width)
    return {"state_dict": state, "model_options": {"arch": f"{architecture}_rmac", "pooling": "gem"}}


@pytest.mark.parametrize(
    ("architecture", "make", "power", "width"),
    [
        ("resnet18", gem_checkpoint, 2.75, 8),
        ("resnet18", dir_checkpoint, 3.5, 6),
        ("resnet101", gem_checkpoint, 2.75, 2048),  # in the shapes of gl18-tl-resnet101-gem-w
    ],
)
def test_both_layouts(tmp_path: Path, architecture: str, make: Any, power: float, width: int) -> None:
    network = random_network(architecture)
    checkpoint = make(network, architecture, width)
    torch.save(checkpoint, tmp_path / "c.pth")
    result = CliRunner().invoke(
        cli, ["convert-checkpoint", str(tmp_path / "c.pth"), str(tmp_path / "c.safetensors")]
    )
    assert result.exit_code == 0, result.output
    size = f"{width} x {channels(network)}"
    assert f"{architecture}, power {power:.3f}, whitening layer {size}" in result.output
    config = GlobalDescriptorConfig(
        backbone=BackboneConfig(name=architecture, weights="random"),
        pooling=PoolingConfig(power=3.0),
        trained=True,
        trained_file=str(tmp_path / "c.safetensors"),
        device="cpu",
    )
    trained = read_checkpoint(tmp_path / "c.pth")
    model = build_model(config, trained.as_whitening())
    # The same by hand: pooled features through the checkpoint's own layer.
    reference = timm.create_model(architecture, num_classes=0)
    reference.load_state_dict(network)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        features = reference.eval().forward_features(images).clamp(min=1e-6)
        pooled = features.pow(power).mean(dim=(2, 3)).pow(1 / power)
        state = checkpoint["state_dict"]
        weight = next(state[name] for name in state if name.endswith(("whiten.weight", ".fc.weight")))
        bias = next(state[name] for name in state if name.endswith(("whiten.bias", ".fc.bias")))
        expected = torch.nn.functional.normalize(pooled, dim=1) @ weight.T + bias
        expected = torch.nn.functional.normalize(expected, dim=1)
        assert torch.allclose(model(images), expected, atol=1e-4)


def test_keys_that_do_not_fit_are_named(network: dict[str, torch.Tensor], tmp_path: Path) -> None:
    checkpoint = dir_checkpoint(network)
    del checkpoint["state_dict"]["module.layer4.1.conv2.weight"]
    checkpoint["state_dict"]["module.layer9.conv.weight"] = torch.ones(1)
    torch.save(checkpoint, tmp_path / "c.pth")
    with pytest.raises(
        LandmarkRetrievalError,
        match=r"1 missing \(layer4.1.conv2.weight\); 1 odd \(layer9.conv.weight\)",
    ):
        read_checkpoint(tmp_path / "c.pth")
    with pytest.raises(LandmarkRetrievalError, match=r"keys do not fit resnet34: .* missing"):
        read_checkpoint(tmp_path / "c.pth", "resnet34")


class Evil:
    """An object whose unpickling would run a program."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('code was run')",)


def test_code_is_never_run(network: dict[str, torch.Tensor], tmp_path: Path) -> None:
    torch.save({**dir_checkpoint(network), "pca": Evil()}, tmp_path / "c.pth")
    with pytest.raises(LandmarkRetrievalError, match=r"read as plain tensors .* save it again without"):
        read_checkpoint(tmp_path / "c.pth")


def test_files_that_are_no_checkpoints(network: dict[str, torch.Tensor], tmp_path: Path) -> None:
    with pytest.raises(LandmarkRetrievalError, match="does not exist"):
        read_checkpoint(tmp_path / "none.pth")
    torch.save({"weights": 3}, tmp_path / "a.pth")
    with pytest.raises(LandmarkRetrievalError, match="holds no 'state_dict'"):
        read_checkpoint(tmp_path / "a.pth")
    torch.save({"state_dict": gem_checkpoint(network)["state_dict"]}, tmp_path / "b.pth")
    with pytest.raises(LandmarkRetrievalError, match="does not say which network"):
        read_checkpoint(tmp_path / "b.pth")
    assert read_checkpoint(tmp_path / "b.pth", "resnet18").power == pytest.approx(2.75)

"""The recipes of docs/backbones.md, on random weights in the shapes and names of the published files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from landmark_retrieval.descriptors import BackboneConfig, GlobalDescriptorConfig, build_backbone
from landmark_retrieval.descriptors.checkpoints import read_checkpoint
from landmark_retrieval.descriptors.extraction import build_model
from landmark_retrieval.descriptors.pooling import PoolingConfig
from landmark_retrieval.descriptors.trained import save_trained
from landmark_retrieval.errors import LandmarkRetrievalError


@pytest.fixture(scope="module")
def resnet50() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return dict(timm.create_model("resnet50", num_classes=0).state_dict())


def delg_name(name: str) -> str:
    """Name a tensor of timm's ResNet as pycls, on which DELG's port is built, does."""
    parts = name.split(".")
    if parts[0] in ("conv1", "bn1"):
        return f"globalmodel.stem.{parts[0][:-1]}.{parts[1]}"
    block = f"globalmodel.s{parts[0][-1]}.b{int(parts[1]) + 1}."
    if parts[2] == "downsample":
        return block + ("proj", "bn")[int(parts[3])] + "." + parts[4]
    letter = "abc"[int(parts[2][-1]) - 1]
    return block + f"f.{letter}{'_bn' if parts[2].startswith('bn') else ''}.{parts[3]}"


def delg_file(network: dict[str, Tensor], file: Path) -> tuple[Tensor, Tensor]:
    state = {delg_name(name): value for name, value in network.items()}
    state["globalmodel.stem.conv.weight"] = network["conv1.weight"].flip(1)  # trained on blue, green, red
    weight, bias = torch.randn(8, 2048), torch.randn(8)
    state |= {"globalmodel.head.pool.p": torch.ones(1) * 3, "globalmodel.head.fc.weight": weight}
    state |= {
        "globalmodel.head.fc.bias": bias,
        "desc_cls.weight": torch.randn(5, 8),
        "desc_cls.t": torch.zeros(1),
    }
    state |= {"localmodel.conv1.weight": torch.randn(2, 4, 1, 1), "att_cls.fc.bias": torch.randn(5)}
    torch.save({"epoch": 3, "model_state": state}, file)
    return weight, bias


class Sscd(nn.Module):
    """A network whose tensors are named as SSCD's."""

    def __init__(self, network: dict[str, Tensor]) -> None:
        super().__init__()
        self.backbone = timm.create_model("resnet50", num_classes=8)
        self.backbone.load_state_dict(network, strict=False)

    def forward(self, images: Tensor) -> Tensor:
        return images


def sscd_file(network: dict[str, Tensor], file: Path, scripted: bool) -> tuple[Tensor, Tensor]:
    model = Sscd(network)
    if scripted:
        torch.jit.trace(model, torch.zeros(1)).save(str(file))
    else:
        torch.save(model.state_dict(), file)
    return model.backbone.fc.weight.detach(), model.backbone.fc.bias.detach()


@pytest.mark.parametrize("kind", ["DELG", "SSCD", "SSCD as TorchScript"])
def test_pooled_vectors_go_through_the_layer_as_they_are(
    resnet50: dict[str, Tensor], tmp_path: Path, kind: str
) -> None:
    """GeM with p = 3, the linear layer, unit length at the end; the file tells which ResNet it is of."""
    file = tmp_path / "weights.pt"
    if kind == "DELG":
        weight, bias = delg_file(resnet50, file)
    else:
        weight, bias = sscd_file(resnet50, file, scripted=kind.endswith("Script"))
    trained = read_checkpoint(file)
    assert trained.facts["backbone"] == "resnet50"
    save_trained(trained, tmp_path / "t.safetensors")
    config = GlobalDescriptorConfig(
        backbone=BackboneConfig(name="resnet50", weights="random"),
        pooling=PoolingConfig(power=2.0),
        trained=True,
        trained_file=str(tmp_path / "t.safetensors"),
        device="cpu",
    )
    model = build_model(config, trained.as_whitening())
    reference = timm.create_model("resnet50", num_classes=0)
    reference.load_state_dict(resnet50)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        features = reference.eval().forward_features(images).clamp(min=1e-6)
        pooled = features.pow(3).mean(dim=(2, 3)).pow(1 / 3)
        expected = functional.normalize(pooled @ weight.T + bias, dim=1)
        assert torch.allclose(model(images), expected, atol=1e-4)


def test_layers_that_miss_are_named(resnet50: dict[str, Tensor], tmp_path: Path) -> None:
    """By timm's names, which are those of the network that they would go to."""
    state = {f"backbone.{name}": value for name, value in resnet50.items() if name != "layer2.1.conv1.weight"}
    torch.save(state, tmp_path / "s.pt")
    with pytest.raises(LandmarkRetrievalError, match=r"1 missing \(layer2\.1\.conv1\.weight\)"):
        read_checkpoint(tmp_path / "s.pt")


@pytest.mark.parametrize(
    "name", ["vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2", "vit_small_patch16_224"]
)
def test_class_token_and_patches_of_a_vision_transformer(tmp_path: Path, name: str) -> None:
    """The class token as a map of one cell, patches as a map; a file without classifier, as DINO's, fits."""
    torch.manual_seed(1)
    reference: Any = timm.create_model(name, num_classes=0, dynamic_img_size=True).eval()
    side = 4 * reference.patch_embed.patch_size[0]
    images = torch.randn(1, 3, side, 2 * side)
    torch.save(reference.state_dict(), tmp_path / "full.pth")
    config = {"name": name, "weights": "file", "weights_file": str(tmp_path / "full.pth")}
    patches = build_backbone(BackboneConfig(**config))
    first = build_backbone(BackboneConfig(**config, class_token=True))
    with torch.inference_mode():
        assert first(images).shape == (1, 384, 1, 1)
        assert patches(images).shape == (1, 384, 4, 8)
        tokens = reference.forward_features(images)
        assert torch.allclose(first(images)[:, :, 0, 0], tokens[:, 0], atol=1e-4)
        grid = tokens[:, reference.num_prefix_tokens :].reshape(1, 4, 8, 384).permute(0, 3, 1, 2)
        assert torch.allclose(patches(images), grid, atol=1e-4)


def test_networks_without_a_class_token_say_so() -> None:
    """A ResNet has none."""
    with pytest.raises(LandmarkRetrievalError, match="resnet18 has no class token"):
        build_backbone(BackboneConfig(name="resnet18", weights="random", class_token=True))

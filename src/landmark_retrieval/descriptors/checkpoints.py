"""Checkpoints of other projects as trained descriptors: ResNets with a pooling power and a linear layer.

Those of cnnimageretrieval-pytorch (GeM), deep-image-retrieval (DIR), sscd-copy-detection (SSCD, also as
TorchScript) and the PyTorch port of DELG.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landmark_retrieval.descriptors.backbones import state_problems
from landmark_retrieval.descriptors.trained import UNIT_REGIONS, TrainedDescriptor
from landmark_retrieval.errors import LandmarkRetrievalError

CNNIMAGERETRIEVAL = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
"""Its `features` are a ResNet's layers by number; pooling and whitening are `pool.p`, `whiten.*`."""

DEPTHS = {6: "resnet50", 23: "resnet101", 36: "resnet152"}
"""Networks of bottlenecks by the blocks of their third stage."""

ARCHITECTURE = re.compile(r"resnet\d+")

SAFE = [
    np.ndarray,
    np.dtype,
    *{type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "b1")},
    np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
    np._core.multiarray.scalar,  # type: ignore[attr-defined]
]
"""What a checkpoint's tables of numbers are made of; nothing of it runs code."""


def read_checkpoint(file: str | Path, backbone: str | None = None) -> TrainedDescriptor:
    """Read a checkpoint of either project without ever unpickling code.

    Args:
        file: `.pth` or `.pt` as published or as their training writes it.
        backbone: timm's name of the network; None takes what the checkpoint says.

    Raises:
        LandmarkRetrievalError: the file cannot be read as plain tensors, names no network, or keys are
            missing or odd.
    """
    import timm

    content = _load(file)
    state = content.get("state_dict", content.get("model_state"))
    if state is None and all(isinstance(value, Tensor) for value in content.values()):
        state = content
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise LandmarkRetrievalError(f"{file}: holds no 'state_dict' of tensors")
    state = {re.sub(r"^module\.", "", name): value for name, value in state.items()}
    name = backbone or architecture(content) or _deep_resnet(state)
    if name is None or not timm.is_model(name):
        raise LandmarkRetrievalError(
            f"{file}: does not say which network it is of; give timm's name of it (--backbone resnet101)"
        )
    layout = next(layout for layout in LAYOUTS if any(key.startswith(layout.sign) for key in state))
    state = layout.rename(state)
    power, layer = _power(state, layout.power), _layer(state, layout.whitening)
    power = layout.fixed_power if power is None else power
    own = timm.create_model(name, num_classes=0).state_dict()
    if problems := state_problems(state, own):
        raise LandmarkRetrievalError(f"{file}: keys do not fit {name}: {problems}; check --backbone")
    unit = "yes" if layout.unit_regions else "no"
    return TrainedDescriptor(
        state, power, layer, {"backbone": name, "source": layout.source, UNIT_REGIONS: unit}
    )


def architecture(content: Mapping[str, Any]) -> str | None:
    """Return the name of the network that a checkpoint says it is of, None where it does not say."""
    meta = content.get("meta") or {}
    options = content.get("model_options") or {}
    said = str(meta.get("architecture") or options.get("arch") or content.get("arch") or "")
    found = ARCHITECTURE.match(said)
    return found.group() if found else None


def _deep_resnet(state: Mapping[str, Tensor]) -> str | None:
    """Return the ResNet that as many blocks in the third stage are of, for layouts that do not say."""
    places = (re.match(r"globalmodel\.s3\.b(\d+)\.|backbone\.layer3\.(\d+)\.", key) for key in state)
    numbers = {place.group(1) or str(int(place.group(2)) + 1) for place in places if place}
    bottleneck = any(".f.c." in key or ".conv3." in key for key in state)
    return DEPTHS.get(max(map(int, numbers))) if numbers and bottleneck else None


def _gem_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {_timm_name(key): value for key, value in state.items()}


def _sscd_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return timm's names: the torchvision network is called `backbone`, its last layer is the embedding."""
    return {key.removeprefix("backbone."): value for key, value in state.items()}


def _delg_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return timm's names of the global part; attention and classifiers are left out.

    The network was trained on channels in the order blue, green, red: its first layer is turned round.
    """
    renamed = {}
    for key, value in state.items():
        name, found = key.removeprefix("globalmodel."), None
        if not key.startswith("globalmodel."):
            continue
        if stem := re.fullmatch(r"stem\.(conv|bn)\.(.+)", name):
            found = f"{stem.group(1)}1.{stem.group(2)}"
        elif block := re.fullmatch(r"s(\d)\.b(\d+)\.(.+)", name):
            found = f"layer{block.group(1)}.{int(block.group(2)) - 1}.{_delg_part(block.group(3))}"
        renamed[found or name] = value.flip(1) if found == "conv1.weight" else value
    return renamed


def _delg_part(part: str) -> str:
    """Return timm's name of a part of a bottleneck."""
    if convolution := re.fullmatch(r"f\.([abc])(_bn)?\.(.+)", part):
        letter, norm, rest = convolution.groups()
        return f"{'bn' if norm else 'conv'}{'abc'.index(letter) + 1}.{rest}"
    return re.sub(r"^bn\.", "downsample.1.", re.sub(r"^proj\.", "downsample.0.", part))


def _timm_name(key: str) -> str:
    """Return timm's name of a ResNet's tensor in cnnimageretrieval's numbering; other keys as they are."""
    first, _, rest = key.removeprefix("features.").partition(".")
    numbered = key.startswith("features.") and first in CNNIMAGERETRIEVAL
    return f"{CNNIMAGERETRIEVAL[first]}.{rest}" if numbered else key


def _power(state: dict[str, Tensor], name: str) -> float | None:
    return float(state.pop(name).reshape(-1)[0]) if name in state else None


def _layer(state: dict[str, Tensor], name: str) -> tuple[Tensor, Tensor] | None:
    weight, bias = state.pop(f"{name}.weight", None), state.pop(f"{name}.bias", None)
    if weight is None:
        return None
    return weight, torch.zeros(len(weight)) if bias is None else bias


def _is_torchscript(file: str | Path) -> bool:
    """Tell an archive with compiled code from one of tensors alone."""
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any("/code/" in name or name.endswith("constants.pkl") for name in archive.namelist())


def _load(file: str | Path) -> Mapping[str, Any]:
    if not Path(file).is_file():
        raise LandmarkRetrievalError(f"{file}: does not exist")
    try:
        if _is_torchscript(file):
            # Read by the C++ loader, which runs nothing; only the tensors are taken.
            archive = torch.jit.load(str(file), map_location="cpu")  # type: ignore[no-untyped-call]
            content: Any = dict(archive.state_dict())
        else:
            with torch.serialization.safe_globals(SAFE):
                content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged archives raise many types
        reason = str(error).splitlines()[0][:200]
        raise LandmarkRetrievalError(
            f"{file}: cannot be read as plain tensors ({type(error).__name__}: {reason}); where it holds "
            "other objects (DIR's 'pca'), save it again without them: torch.save({'state_dict': ..., "
            "'model_options': ...})"
        ) from error
    if not isinstance(content, Mapping):
        raise LandmarkRetrievalError(f"{file}: holds a {type(content).__name__}, not a checkpoint")
    return content


@dataclass(frozen=True)
class Layout:
    """How a project names the tensors of its checkpoints.

    Attributes:
        source: the project.
        sign: prefix by which its checkpoints are known, once `module.` is taken off.
        rename: gives timm's names to those of the network.
        power: name of the pooling's power.
        whitening: name of the linear layer that follows the pooling.
        fixed_power: of the pooling where the checkpoint does not hold it.
        unit_regions: whether pooled vectors are normalised before the linear layer.
    """

    source: str
    sign: str
    rename: Callable[[Mapping[str, Tensor]], dict[str, Tensor]]
    power: str
    whitening: str
    fixed_power: float | None = None
    unit_regions: bool = True


LAYOUTS = (
    Layout("cnnimageretrieval-pytorch", "features.", _gem_names, "pool.p", "whiten"),
    Layout("sscd-copy-detection", "backbone.", _sscd_names, "avgpool.p", "fc", 3.0, unit_regions=False),
    Layout("DELG", "globalmodel.", _delg_names, "head.pool.p", "head.fc", 3.0, unit_regions=False),
    Layout("deep-image-retrieval", "", dict, "adpool.p", "fc"),
)
"""The layouts that are known; the last one fits whatever is left."""

"""Checkpoints of other projects as trained descriptors.

Those of cnnimageretrieval-pytorch (GeM) and deep-image-retrieval (DIR): ResNets with a pooling power and a
fully connected whitening layer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from landmark_retrieval.descriptors.backbones import state_problems
from landmark_retrieval.descriptors.trained import TrainedDescriptor
from landmark_retrieval.errors import LandmarkRetrievalError

CNNIMAGERETRIEVAL = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
"""Its `features` are a ResNet's layers by number; pooling and whitening are `pool.p`, `whiten.*`."""

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
    state = content.get("state_dict")
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise LandmarkRetrievalError(f"{file}: holds no 'state_dict' of tensors")
    state = {re.sub(r"^module\.", "", name): value for name, value in state.items()}
    name = backbone or architecture(content)
    if name is None or not timm.is_model(name):
        raise LandmarkRetrievalError(
            f"{file}: does not say which network it is of; give timm's name of it (--backbone resnet101)"
        )
    if any(key.startswith("features.") for key in state):
        source, pooling, whitening = "cnnimageretrieval-pytorch", "pool.p", "whiten"
        state = {_timm_name(key): value for key, value in state.items()}
    else:
        source, pooling, whitening = "deep-image-retrieval", "adpool.p", "fc"
    power, layer = _power(state, pooling), _layer(state, whitening)
    own = timm.create_model(name, num_classes=0).state_dict()
    if problems := state_problems(state, own):
        raise LandmarkRetrievalError(f"{file}: keys do not fit {name}: {problems}; check --backbone")
    return TrainedDescriptor(state, power, layer, {"backbone": name, "source": source})


def architecture(content: Mapping[str, Any]) -> str | None:
    """Return the name of the network that a checkpoint says it is of, None where it does not say."""
    meta = content.get("meta") or {}
    options = content.get("model_options") or {}
    said = str(meta.get("architecture") or options.get("arch") or content.get("arch") or "")
    found = ARCHITECTURE.match(said)
    return found.group() if found else None


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


def _load(file: str | Path) -> Mapping[str, Any]:
    if not Path(file).is_file():
        raise LandmarkRetrievalError(f"{file}: does not exist")
    try:
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

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
import timm
import torch
from torch import Tensor

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
        network, power, layer, source = _cnnimageretrieval(state)
    else:
        network, power, layer, source = _dir(state)
    own = timm.create_model(name, num_classes=0).state_dict()
    _check(network, own, str(file), name)
    return TrainedDescriptor(network, power, layer, {"backbone": name, "source": source})


def architecture(content: Mapping[str, Any]) -> str | None:
    """Return the name of the network that a checkpoint says it is of, None where it does not say."""
    meta = content.get("meta") or {}
    options = content.get("model_options") or {}
    said = str(meta.get("architecture") or options.get("arch") or content.get("arch") or "")
    found = ARCHITECTURE.match(said)
    return found.group() if found else None


def _cnnimageretrieval(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], float | None, Any, str]:
    network, rest = {}, {}
    for name, value in state.items():
        part = name.split(".", 2)
        if part[0] == "features" and part[1] in CNNIMAGERETRIEVAL:
            network[".".join([CNNIMAGERETRIEVAL[part[1]], *part[2:]])] = value
        else:
            rest[name] = value
    return network, _power(rest, "pool.p"), _layer(rest, "whiten"), "cnnimageretrieval-pytorch" + _odd(rest)


def _dir(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], float | None, Any, str]:
    rest = {name: value for name, value in state.items() if name.startswith(("adpool.", "fc."))}
    network = {name: value for name, value in state.items() if name not in rest}
    return network, _power(rest, "adpool.p"), _layer(rest, "fc"), "deep-image-retrieval" + _odd(rest)


def _power(rest: dict[str, Tensor], name: str) -> float | None:
    return float(rest.pop(name).reshape(-1)[0]) if name in rest else None


def _layer(rest: dict[str, Tensor], name: str) -> tuple[Tensor, Tensor] | None:
    weight, bias = rest.pop(f"{name}.weight", None), rest.pop(f"{name}.bias", None)
    if weight is None:
        return None
    return weight, torch.zeros(len(weight)) if bias is None else bias


def _odd(rest: Mapping[str, Tensor]) -> str:
    if rest:
        raise LandmarkRetrievalError(f"checkpoint: odd keys {', '.join(sorted(rest)[:3])}")
    return ""


def _check(network: Mapping[str, Tensor], own: Mapping[str, Tensor], file: str, name: str) -> None:
    needed = {key for key in own if not key.endswith("num_batches_tracked")}
    missing, odd = sorted(needed - network.keys()), sorted(network.keys() - own.keys())
    shapes = sorted(key for key in needed & network.keys() if own[key].shape != network[key].shape)
    problems = {"missing": missing, "odd": odd, "of another shape": shapes}
    if any(problems.values()):
        said = "; ".join(
            f"{len(keys)} {kind} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
            for kind, keys in problems.items()
            if keys
        )
        raise LandmarkRetrievalError(f"{file}: keys do not fit {name}: {said}; check --backbone")


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

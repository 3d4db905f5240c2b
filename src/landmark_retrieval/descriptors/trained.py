"""Files of trained descriptors: network, power of the pooling and whitening layer, without any code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from landmark_retrieval.descriptors.whitening import Whitening
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.images import file_state
from landmark_retrieval.runtime.files import whole_file

NETWORK = "network."
UNIT_REGIONS = "unit_regions"
"""Fact of a trained descriptor: `no` where its whitening layer takes pooled vectors as they are."""

POWER, WEIGHT, BIAS = "pooling.power", "whitening.weight", "whitening.bias"


@dataclass(frozen=True, eq=False)
class TrainedDescriptor:
    """What training or a converter made of a descriptor.

    Attributes:
        network: state dict with timm's names, without classifier.
        power: exponent of the pooling, None where it is not trained.
        whitening: weight `[e, c]` and bias `[e]` of the whitening layer, None for none.
        facts: name of the network (`backbone`) and whatever else says where the weights come from.
    """

    network: Mapping[str, Tensor]
    power: float | None
    whitening: tuple[Tensor, Tensor] | None
    facts: Mapping[str, str]

    def as_whitening(self) -> Whitening:
        """Return the whitening layer as `(x - mean) @ projection`, `Whitening.none()` for none.

        The mean is the least-squares solution of `-mean @ projection = bias`.
        """
        if self.whitening is None:
            return Whitening.none()
        weight, bias = (part.double().numpy() for part in self.whitening)
        mean = np.linalg.lstsq(weight, -bias, rcond=None)[0]
        return Whitening(mean.astype(np.float32), np.ascontiguousarray(weight.T, np.float32))


def save_trained(trained: TrainedDescriptor, file: str | Path) -> None:
    """Write a trained descriptor as a safetensors file, whole or not at all."""
    tensors = {NETWORK + name: value for name, value in trained.network.items()}
    if trained.power is not None:
        tensors[POWER] = torch.tensor(trained.power)
    if trained.whitening is not None:
        tensors[WEIGHT], tensors[BIAS] = trained.whitening
    contiguous = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    with whole_file(Path(file)) as temporary:
        save_file(contiguous, temporary, dict(trained.facts))


def load_trained(file: str | Path, backbone: str) -> TrainedDescriptor:
    """Read a trained descriptor.

    Args:
        file: as `save_trained` writes it.
        backbone: name of the network that it must be of.

    Raises:
        LandmarkRetrievalError: the file is missing, damaged or of another network.
    """
    return _load_trained(str(file), backbone, file_state(str(file)))


@lru_cache(maxsize=4)
def _load_trained(file: str, backbone: str, state: tuple[float, ...]) -> TrainedDescriptor:
    if not Path(file).is_file():
        raise LandmarkRetrievalError(
            f"trained_file: '{file}' does not exist; make it with `kedro run --pipelines training` or "
            "`kedro convert-checkpoint`"
        )
    try:
        with safe_open(file, framework="pt") as stored:
            facts = dict(stored.metadata() or {})
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise LandmarkRetrievalError(f"trained_file: '{file}' is no safetensors file ({error})") from error
    if facts.get("backbone") != backbone:
        raise LandmarkRetrievalError(
            f"trained_file: '{file}' is of the network '{facts.get('backbone')}', "
            f"backbone.name is '{backbone}'"
        )
    network = {
        name.removeprefix(NETWORK): value for name, value in tensors.items() if name.startswith(NETWORK)
    }
    layer = (tensors[WEIGHT], tensors[BIAS]) if WEIGHT in tensors and BIAS in tensors else None
    power = float(tensors[POWER]) if POWER in tensors else None
    return TrainedDescriptor(network, power, layer, facts)

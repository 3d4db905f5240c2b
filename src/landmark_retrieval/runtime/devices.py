"""Where and how networks run: device, precision, batch size."""

from __future__ import annotations

import contextlib
from typing import Any

import torch

from landmark_retrieval.descriptors.config import GlobalDescriptorConfig
from landmark_retrieval.errors import LandmarkRetrievalError

GPU_BATCH, CPU_BATCH = 32, 4
"""Default batch sizes; on a CPU the activations of a larger batch leave the cache."""


def choose_device(name: str = "auto") -> torch.device:
    """Return the torch device of a `device` option.

    Raises:
        LandmarkRetrievalError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise LandmarkRetrievalError(
            f"device: '{name}' is not available here ({str(error).splitlines()[0]}); use 'auto' or 'cpu'"
        ) from None
    return device


def autocast(config: GlobalDescriptorConfig, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Return the context in which the network runs at the configured precision.

    Args:
        config: with `precision`; `auto` is float16 on a GPU and float32 elsewhere.
        device: where the network runs.
    """
    precision = resolved_precision(config, device)
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, precision))


def resolved_precision(config: GlobalDescriptorConfig, device: torch.device | None = None) -> str:
    """Return the precision that a configuration means on a device, its own where None is given."""
    if config.precision != "auto":
        return config.precision
    return "float16" if (device or choose_device(config.device)).type == "cuda" else "float32"


def batch_size(config: GlobalDescriptorConfig) -> int:
    """Return the batch size that a configuration means on its device."""
    return config.batch_size or (CPU_BATCH if choose_device(config.device).type == "cpu" else GPU_BATCH)

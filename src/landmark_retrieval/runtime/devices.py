"""Where and how networks run: device, precision, batch size."""

from __future__ import annotations

import torch

from landmark_retrieval.descriptors.config import GlobalDescriptorConfig
from landmark_retrieval.errors import LandmarkRetrievalError

GPU_BATCH, CPU_BATCH = 32, 4
"""Default batch sizes; on a CPU the activations of a larger batch leave the cache."""


CPU_SHARD, GPU_SHARD = 64, 1024
"""Default photos of a shard; on a GPU batches of one shape need many to choose from."""


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


def resolved_precision(config: GlobalDescriptorConfig, device: torch.device | None = None) -> str:
    """Return the precision that a configuration means on a device, its own where None is given.

    `auto` is on a GPU tf32 or float16, whichever is faster for a shape (`descriptors.forward`).
    """
    if config.precision != "auto":
        return config.precision
    return "tf32 or float16" if (device or choose_device(config.device)).type == "cuda" else "float32"


def shard_size(config: GlobalDescriptorConfig) -> int:
    """Return the photos of a shard that a configuration means on its device."""
    return config.shard_size or (CPU_SHARD if choose_device(config.device).type == "cpu" else GPU_SHARD)


def batch_size(config: GlobalDescriptorConfig) -> int:
    """Return the batch size that a configuration means on its device."""
    return config.batch_size or (CPU_BATCH if choose_device(config.device).type == "cpu" else GPU_BATCH)

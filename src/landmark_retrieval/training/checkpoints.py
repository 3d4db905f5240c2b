"""Checkpoints of trainings: tensors and numbers, and what they depend on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from landmark_retrieval.runtime.files import whole_file

logger = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.pt"


def write_checkpoint(file: Path, fingerprint: str, content: Mapping[str, Any]) -> None:
    """Write tensors and numbers with what they depend on, whole or not at all.

    Args:
        file: to write; its folder is made.
        fingerprint: fingerprint of the images and parameters that the content depends on.
        content: tensors, numbers, texts, and lists and dicts of them.
    """
    with whole_file(file) as temporary:
        torch.save({"fingerprint": fingerprint, **content}, temporary)


def read_checkpoint(file: Path, fingerprint: str) -> dict[str, Any] | None:
    """Return what `write_checkpoint` wrote, on the CPU; None where there is nothing of use.

    Args:
        file: file of the checkpoint; a damaged one is named in the log.
        fingerprint: that it must have; another one is named in the log.
    """
    if not file.exists():
        return None
    try:
        stored: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged archives raise many types
        logger.warning("%s is damaged (%s): training starts anew", file, type(error).__name__)
        return None
    if stored.get("fingerprint") != fingerprint:
        logger.info("%s is of other images or parameters: training starts anew", file)
        return None
    return stored

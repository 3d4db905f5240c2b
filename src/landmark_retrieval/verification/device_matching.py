"""Tentative correspondences of one image with several at a time, by PyTorch: what GPUs are for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from landmark_retrieval.verification.matching import MatchingConfig

if TYPE_CHECKING:
    from landmark_retrieval.local_features.base import LocalFeatures

BATCH = 16
"""Images matched at a time with one; products of 2000 x 2000 features take 16 MB each."""


def matching_device(name: str) -> torch.device | None:
    """Return the GPU that a `device` option means here; None for the CPU, where `match` is faster."""
    return torch.device("cuda") if name != "cpu" and torch.cuda.is_available() else None


def match_many(
    a: LocalFeatures, others: Sequence[LocalFeatures], config: MatchingConfig, device: torch.device
) -> list[NDArray[np.int32]]:
    """Match one image with several; as `match` each, but for rounding.

    Args:
        a: features of the one image.
        others: features of the others.
        config: thresholds without open values.
        device: where products are computed.

    Returns:
        For each other image int32 `[c, 2]`.
    """
    assert config.ratio is not None
    result = [np.zeros((0, 2), np.int32)] * len(others)
    for start in range(0, len(others), BATCH):
        numbers = [
            number
            for number in range(start, min(start + BATCH, len(others)))
            if len(a.descriptors) and len(others[number].descriptors)
        ]
        if numbers:
            matched = _match(a.descriptors, [others[n].descriptors for n in numbers], config.ratio, device)
            for number, pairs in zip(numbers, matched, strict=True):
                result[number] = pairs
    return result


def _match(
    a: NDArray[np.floating], others: Sequence[NDArray[np.floating]], ratio: float, device: torch.device
) -> list[NDArray[np.int32]]:
    """Return the mutual nearest neighbours that pass the ratio test both ways, for each of `others`."""
    width = max(2, *(len(other) for other in others))
    stacked = np.zeros((len(others), width, a.shape[1]), others[0].dtype)
    for number, other in enumerate(others):
        stacked[number, : len(other)] = other
    lengths = torch.tensor([len(other) for other in others], device=device)
    there = torch.arange(width, device=device)[None] < lengths[:, None]
    left = torch.from_numpy(np.ascontiguousarray(a)).to(device).float()
    right = torch.from_numpy(stacked).to(device).float()
    similarities = left @ right.transpose(1, 2)
    similarities.masked_fill_(~there[:, None], -torch.inf)
    if len(a) < 2:
        padding = torch.full_like(similarities, -torch.inf)
        similarities = torch.cat([similarities, padding], dim=1)
    rows, columns = similarities.topk(2, dim=2).values, similarities.topk(2, dim=1).values
    row_fits = _distinct(rows[..., 0], rows[..., 1], ratio)
    column_fits = _distinct(columns[:, 0], columns[:, 1], ratio)
    # Of equal neighbours the first one counts: argmax promises none.
    places = torch.arange(width, device=device)
    nearest = torch.where(similarities == rows[..., :1], places, width).amin(dim=2).clamp(max=width - 1)
    mutual = rows[..., 0] == columns[:, 0].gather(1, nearest)
    kept = mutual & row_fits & column_fits.gather(1, nearest) & torch.isfinite(rows[..., 0])
    return [_first_of_each(kept[n], nearest[n]) for n in range(len(others))]


def _distinct(best: Tensor, second: Tensor, ratio: float) -> Tensor:
    if ratio >= 1:
        return torch.ones_like(best, dtype=torch.bool)
    return (1 - best).clamp(min=0) < ratio**2 * (1 - second)


def _first_of_each(kept: Tensor, nearest: Tensor) -> NDArray[np.int32]:
    rows = torch.nonzero(kept)[:, 0].cpu().numpy()
    columns = nearest.cpu().numpy()[rows]
    first = np.sort(np.unique(columns, return_index=True)[1])
    return np.stack([rows[first], columns[first]], axis=1).astype(np.int32)

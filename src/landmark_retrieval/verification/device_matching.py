"""Tentative correspondences of many pairs of images at a time, by PyTorch: what GPUs are for."""

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

BATCH = 64
"""Pairs matched at a time; products of 2000 x 2000 features take 16 MB a pair."""

WIDTH_STEP = 256
"""Features are padded to a multiple of so many, so that a GPU meets few shapes."""


def matching_device(name: str) -> torch.device | None:
    """Return the GPU that a `device` option means here; None for the CPU, where `match` is faster."""
    return torch.device("cuda") if name != "cpu" and torch.cuda.is_available() else None


def match_many(
    pairs: Sequence[tuple[LocalFeatures, LocalFeatures]], config: MatchingConfig, device: torch.device
) -> list[NDArray[np.int32]]:
    """Match pairs of images; as `match` each, but for rounding.

    Descriptors stored in half precision are multiplied in half precision on a GPU, where that is many times
    faster, and added up in single precision: products of two such numbers are exact there.

    Args:
        pairs: features of two images each. Those of one image go to the device once in a batch, so that
            pairs that share images should stand together.
        config: thresholds without open values.
        device: where products are computed.

    Returns:
        For each pair int32 `[c, 2]`.
    """
    assert config.ratio is not None
    result = [np.zeros((0, 2), np.int32)] * len(pairs)
    possible = [at for at, (a, b) in enumerate(pairs) if len(a.descriptors) and len(b.descriptors)]
    for start in range(0, len(possible), BATCH):
        numbers = possible[start : start + BATCH]
        for number, found in zip(
            numbers, _match([pairs[at] for at in numbers], config.ratio, device), strict=True
        ):
            result[number] = found
    return result


def _match(
    pairs: Sequence[tuple[LocalFeatures, LocalFeatures]], ratio: float, device: torch.device
) -> list[NDArray[np.int32]]:
    """Return the mutual nearest neighbours that pass the ratio test both ways, for each pair."""
    images = list({id(one): one for pair in pairs for one in pair}.values())
    place = {id(one): number for number, one in enumerate(images)}
    lengths = torch.tensor([len(one.descriptors) for one in images], device=device)
    stacked = _stack([one.descriptors for one in images]).to(device)
    if device.type != "cuda":
        stacked = stacked.float()
    first, second = (
        torch.tensor([place[id(pair[side])] for pair in pairs], device=device) for side in (0, 1)
    )
    similarities = _products(stacked[first], stacked[second])
    numbers = torch.arange(stacked.shape[1], device=device)
    similarities.masked_fill_((numbers >= lengths[first, None])[:, :, None], -torch.inf)
    similarities.masked_fill_((numbers >= lengths[second, None])[:, None], -torch.inf)
    row_best, row_second, nearest = _two_largest(similarities, 2)
    column_best, column_second, _ = _two_largest(similarities, 1)
    if ratio >= 1:  # else equal neighbours fail the ratio test; which of them a maximum names is not promised
        equal = similarities == row_best[..., None]
        nearest = torch.where(equal, numbers, len(numbers)).amin(dim=2).clamp(max=len(numbers) - 1)
    mutual = row_best == column_best.gather(1, nearest)
    fits = _distinct(row_best, row_second, ratio)
    fits &= _distinct(column_best, column_second, ratio).gather(1, nearest)
    kept = (mutual & fits & torch.isfinite(row_best)).cpu().numpy()
    columns = nearest.to(torch.int32).cpu().numpy()
    return [_first_of_each(kept[number], columns[number]) for number in range(len(pairs))]


def _stack(descriptors: Sequence[NDArray[np.floating]]) -> Tensor:
    """Return descriptors of several images padded with zeros, `[b, w, d]`."""
    width = -(-max(2, *map(len, descriptors)) // WIDTH_STEP) * WIDTH_STEP
    dtype = np.result_type(*{one.dtype for one in descriptors})
    stacked = np.zeros((len(descriptors), width, descriptors[0].shape[1]), dtype)
    for number, one in enumerate(descriptors):
        stacked[number, : len(one)] = one
    return torch.from_numpy(stacked)


def _products(first: Tensor, second: Tensor) -> Tensor:
    """Return inner products `[b, m, n]` float32 of `[b, m, d]` and `[b, n, d]`."""
    if first.dtype == torch.float16:
        return torch.bmm(first, second.transpose(1, 2), out_dtype=torch.float32)
    return first @ second.transpose(1, 2)


def _two_largest(values: Tensor, dimension: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the largest and the second largest value along a dimension, and where the largest is.

    Two maxima take an eighth of the time that `topk` needs on a GPU. `values` are the same afterwards.
    """
    largest, at = values.max(dim=dimension, keepdim=True)
    values.scatter_(dimension, at, -torch.inf)
    second = values.amax(dim=dimension)
    values.scatter_(dimension, at, largest)
    return largest.squeeze(dimension), second, at.squeeze(dimension)


def _distinct(best: Tensor, second: Tensor, ratio: float) -> Tensor:
    if ratio >= 1:
        return torch.ones_like(best, dtype=torch.bool)
    return (1 - best).clamp(min=0) < ratio**2 * (1 - second)


def _first_of_each(kept: NDArray[np.bool_], nearest: NDArray[np.int32]) -> NDArray[np.int32]:
    rows = np.flatnonzero(kept)
    first = np.sort(np.unique(nearest[rows], return_index=True)[1])
    return np.stack([rows[first], nearest[rows[first]]], axis=1).astype(np.int32)

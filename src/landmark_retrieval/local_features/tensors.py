"""Between images and the tensors of the extractors that are networks."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from landmark_retrieval.local_features.base import LocalFeatures


def to_tensor(image: Image.Image, device: torch.device) -> Tensor:
    """Return an RGB image as float32 `[1, 3, h, w]` in [0, 1]."""
    pixels = torch.from_numpy(np.array(image, dtype=np.uint8))
    return pixels.to(device).permute(2, 0, 1)[None].float() / 255


def from_tensors(
    keypoints: Tensor, descriptors: Tensor, scores: Tensor, size: tuple[int, int]
) -> LocalFeatures:
    """Return features on the CPU; points outside the image or with unusable values are left out.

    Args:
        keypoints: `[m, 2]` x and y in pixels.
        descriptors: `[m, d]`, L2-normalised rows.
        scores: `[m]`.
        size: width and height of the image in pixels.
    """
    xy = keypoints.float().cpu().numpy()
    rows = descriptors.float().cpu().numpy()
    weights = scores.float().cpu().numpy()
    inside = (xy >= -0.5).all(axis=1) & (xy <= np.array(size) - 0.5).all(axis=1)
    usable = inside & np.isfinite(rows).all(axis=1) & np.isfinite(weights)
    return LocalFeatures(
        xy[usable], rows[usable], weights[usable], np.ones(int(usable.sum()), np.float32), size
    )

"""DELF: dense features of an inner stage of a network, the best cells kept."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from landmark_retrieval.descriptors.backbones import build_backbone
from landmark_retrieval.local_features.attention import load_attention
from landmark_retrieval.local_features.base import LocalFeatureExtractor, LocalFeatures
from landmark_retrieval.local_features.config import DelfConfig
from landmark_retrieval.local_features.tensors import to_tensor
from landmark_retrieval.runtime.devices import choose_device

STRIDE = 32
"""Sides of the images that go through the network are multiples of this, so that its cells tile them."""


def tiled_size(size: tuple[int, int], scale: float = 1.0) -> tuple[int, int]:
    """Return width and height of a scaled image rounded to multiples of `STRIDE`, at least one.

    Args:
        size: width and height of the image in pixels.
        scale: factor of both.
    """
    width, height = (max(STRIDE, round(side * scale / STRIDE) * STRIDE) for side in size)
    return width, height


class Delf(LocalFeatureExtractor):
    """Features of an image pyramid, scored by an attention head or, without one, by their norm.

    Noh et al.: "Large-Scale Image Retrieval with Attentive Deep Local Features", 2017, section 4.
    """

    def __init__(self, config: DelfConfig) -> None:
        self.config = config
        self.device = choose_device()
        self.backbone = build_backbone(config.backbone).eval().to(self.device)
        self.dimensions = self.backbone.channels
        self.attention = (
            None if config.attention is None else load_attention(config.attention, self.dimensions)
        )
        if self.attention is not None:
            self.attention.to(self.device)
        self.mean = torch.tensor(self.backbone.mean, device=self.device).view(1, 3, 1, 1)
        self.std = torch.tensor(self.backbone.std, device=self.device).view(1, 3, 1, 1)

    def detect(self, image: Image.Image, max_keypoints: int) -> LocalFeatures:
        """See `LocalFeatureExtractor.detect`; descriptors have the channels of the stage, before PCA."""
        found = [self._detect_at(image, scale) for scale in self.config.scales]
        return LocalFeatures(
            np.concatenate([part.keypoints for part in found]),
            np.concatenate([part.descriptors for part in found]),
            np.concatenate([part.scores for part in found]),
            np.concatenate([part.scales for part in found]),
            image.size,
        )

    def _detect_at(self, image: Image.Image, scale: float) -> LocalFeatures:
        resized = image.resize(tiled_size(image.size, scale), Image.Resampling.BICUBIC)
        with torch.inference_mode():
            features = self.backbone((to_tensor(resized, self.device) - self.mean) / self.std)
            scores = (
                features.norm(dim=1, keepdim=True) if self.attention is None else self.attention(features)
            )
            window = 2 * self.config.nms_radius + 1
            peaks = scores == functional.max_pool2d(scores, window, stride=1, padding=window // 2)
            y, x = torch.nonzero(peaks[0, 0], as_tuple=True)
            rows = functional.normalize(features[0, :, y, x].T, dim=1).cpu().numpy()
            chosen = scores[0, 0, y, x].cpu().numpy()
        # A cell stands for an equal share of the image. The padding of some networks moves the receptive
        # field off that centre, but what trained ones respond to stays within half a pixel of it (measured
        # on mirrored photos).
        cell = np.array([image.width / features.shape[3], image.height / features.shape[2]])
        centres = (np.stack([x.cpu().numpy(), y.cpu().numpy()], axis=1) + 0.5) * cell - 0.5
        return LocalFeatures(
            centres.astype(np.float32),
            rows.astype(np.float32),
            chosen.astype(np.float32),
            np.full(len(rows), cell.mean(), np.float32),
            image.size,
        )

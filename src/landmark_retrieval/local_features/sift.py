"""RootSIFT keypoints and descriptors."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from landmark_retrieval.local_features.base import LocalFeatureExtractor, LocalFeatures
from landmark_retrieval.local_features.config import SiftConfig


class Sift(LocalFeatureExtractor):
    """SIFT by OpenCV with the Hellinger kernel's mapping.

    Arandjelović and Zisserman: "Three things everyone should know to improve object retrieval", 2012,
    section 2.
    """

    dimensions = 128

    def __init__(self, config: SiftConfig) -> None:
        self.config = config

    def detect(self, image: Image.Image, max_keypoints: int) -> LocalFeatures:
        """See `LocalFeatureExtractor.detect`; descriptors are 128-d."""
        grey = np.asarray(image.convert("L"))
        if self.config.clahe:
            grey = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8)).apply(grey)
        detector = cv2.SIFT.create(
            nfeatures=max_keypoints,
            contrastThreshold=self.config.contrast_threshold,
            enable_precise_upscale=True,  # otherwise keypoints lie a quarter of a pixel off
        )
        points, descriptors = detector.detectAndCompute(grey, None)
        if descriptors is None:
            return LocalFeatures.empty(self.dimensions, image.size)
        return LocalFeatures(
            np.array([point.pt for point in points], np.float32),
            root_sift(np.asarray(descriptors, np.float32)),
            np.array([point.response for point in points], np.float32),
            np.array([point.size for point in points], np.float32),
            image.size,
        )


def root_sift(descriptors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return L1-normalised, square-rooted SIFT descriptors `[m, 128]`; their inner product is Hellinger's."""
    sums = np.maximum(np.abs(descriptors).sum(axis=1, keepdims=True), np.float32(1e-12))
    roots: NDArray[np.float32] = np.sqrt(descriptors / sums)
    return roots

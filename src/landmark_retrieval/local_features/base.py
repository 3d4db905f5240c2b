"""What every local feature extractor takes and gives."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from landmark_retrieval.images import Source, TurnedImage, upright_points


@dataclass(frozen=True)
class LocalFeatures:
    """Local features of one image.

    Attributes:
        keypoints: float32 `[m, 2]`, x and y in pixels of the image (pixel centres at integers).
        descriptors: float16 or float32 `[m, d]`, L2-normalised rows.
        scores: float32 `[m]`, falling; how reliable the extractor holds each keypoint.
        scales: float32 `[m]`, diameter of what a keypoint describes, in pixels (1 where not known).
        size: width and height of the image in pixels, (0, 0) when unknown.
    """

    keypoints: NDArray[np.float32]
    descriptors: NDArray[np.float16] | NDArray[np.float32]
    scores: NDArray[np.float32]
    scales: NDArray[np.float32]
    size: tuple[int, int] = (0, 0)

    def __len__(self) -> int:
        return len(self.keypoints)

    @classmethod
    def empty(cls, dimensions: int, size: tuple[int, int] = (0, 0)) -> LocalFeatures:
        """Return no features.

        Args:
            dimensions: length of the descriptors.
            size: width and height of the image in pixels.
        """
        return cls(
            np.zeros((0, 2), np.float32),
            np.zeros((0, dimensions), np.float16),
            np.zeros(0, np.float32),
            np.zeros(0, np.float32),
            size,
        )

    def strongest(self, count: int) -> LocalFeatures:
        """Return the `count` features with the highest scores, by falling score, ties in stored order."""
        order = np.argsort(-self.scores, kind="stable")[:count]
        return LocalFeatures(
            self.keypoints[order], self.descriptors[order], self.scores[order], self.scales[order], self.size
        )

    def upright(self, source: Source) -> LocalFeatures:
        """Return features of a turned image with keypoints and size of the upright one; others as they are.

        Args:
            source: the image that was described.
        """
        if not isinstance(source, TurnedImage):
            return self
        size = self.size if source.turn == 180 else self.size[::-1]
        return replace(self, keypoints=upright_points(self.keypoints, source.turn, size), size=size)


class LocalFeatureExtractor(ABC):
    """Turns an RGB image into local features; built once per process and used for many images."""

    dimensions: int
    """Length of a descriptor."""

    def extract(self, image: Image.Image, max_keypoints: int) -> LocalFeatures:
        """Return the strongest features of an image, none where all its pixels are equal.

        Args:
            image: RGB, at least 32 pixels a side.
            max_keypoints: most features returned.

        Returns:
            At most `max_keypoints` features, keypoints in pixels of `image`, by falling score.
        """
        pixels = np.asarray(image.convert("RGB"))
        if (pixels == pixels[0, 0]).all():
            return LocalFeatures.empty(self.dimensions, image.size)  # networks see corners at the border
        return self.detect(image, max_keypoints).strongest(max_keypoints)

    @abstractmethod
    def detect(self, image: Image.Image, max_keypoints: int) -> LocalFeatures:
        """Return features of an image that is not blank, in any order; more than asked for are cut off.

        Args:
            image: RGB, at least 32 pixels a side.
            max_keypoints: features wanted.

        Returns:
            Features as in `LocalFeatures`, keypoints in pixels of `image`.
        """

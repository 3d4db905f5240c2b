"""Training views: random crops of images, all of a batch in one shape."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from landmark_retrieval.images import Source, UnreadableImageError, load_image

STEP = 32
"""Sides are multiples of this many pixels."""

RATIOS = (4 / 3, 1.0, 3 / 4)
"""Shapes of batches, width over height."""

Pixels = NDArray[np.uint8]


def batch_shape(sizes: Sequence[tuple[int, int]], max_side: int) -> tuple[int, int]:
    """Return the shape (width, height) of a batch: that of `RATIOS` which is nearest to its images.

    Args:
        sizes: width and height of its images.
        max_side: long side of the shape in pixels.
    """
    middle = float(np.median([np.log(width / height) for width, height in sizes])) if sizes else 0.0
    ratio = min(RATIOS, key=lambda candidate: abs(np.log(candidate) - middle))
    width, height = max_side * min(1.0, ratio), max_side * min(1.0, 1 / ratio)
    return max(STEP, round(width / STEP) * STEP), max(STEP, round(height / STEP) * STEP)


SMALLEST_CROP = 0.4
"""Least share of an image's area that a view shows."""


def random_view(pixels: Pixels, shape: tuple[int, int], random: np.random.Generator) -> Pixels:
    """Return a random part of an image in a given shape, half of the time mirrored.

    Its aspect ratio is about that of the shape.

    Args:
        pixels: uint8 `[h, w, 3]`.
        shape: width and height of the view.
        random: source of the draw.

    Returns:
        uint8 `[shape[1], shape[0], 3]`.
    """
    height, width = pixels.shape[:2]
    area = random.uniform(SMALLEST_CROP, 1.0) * height * width
    ratio = shape[0] / shape[1] * np.exp(random.uniform(-1, 1) * np.log(1.25))
    crop_width = min(width, max(1, round(np.sqrt(area * ratio))))
    crop_height = min(height, max(1, round(np.sqrt(area / ratio))))
    left = int(random.integers(0, width - crop_width + 1))
    top = int(random.integers(0, height - crop_height + 1))
    part = pixels[top : top + crop_height, left : left + crop_width]
    shrinks = crop_width * crop_height > shape[0] * shape[1]
    view = cv2.resize(part, shape, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    light = random.uniform(0.8, 1.2)
    view = np.clip(view.astype(np.float32) * light, 0, 255).astype(np.uint8)
    mirrored = random.random() < 0.5
    return np.ascontiguousarray(view[:, ::-1] if mirrored else view)


def load_pixels(source: Source, max_side: int) -> Pixels:
    """Return an image as uint8 `[h, w, 3]`, shrunk to about 1.5 times `max_side`; grey where unreadable."""
    try:
        image = load_image(source, at_least=max_side)
    except UnreadableImageError:
        return np.full((STEP, STEP, 3), 127, np.uint8)
    zoom = 1.5 * max_side / max(image.size)
    if zoom < 1:
        image = image.resize((max(1, round(image.width * zoom)), max(1, round(image.height * zoom))))
    return np.asarray(image, np.uint8)

"""Pictures that tests draw."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw


def render(landmark: int, view: int, size: tuple[int, int] = (96, 72)) -> Image.Image:
    """Draw a clearly synthetic picture: coloured shapes that depend on the landmark, shifted by the view."""
    shapes = np.random.default_rng(1000 + landmark)
    shift = np.random.default_rng(7919 * (landmark + 1) + view).integers(-4, 5, size=2)
    image = Image.new("RGB", size, tuple(int(value) for value in shapes.integers(0, 256, 3)))
    draw = ImageDraw.Draw(image)
    for number in range(12):
        left, top = shapes.integers(0, size) + shift
        width, height = shapes.integers(8, 30, 2)
        colour = tuple(int(value) for value in shapes.integers(0, 256, 3))
        box = [int(left), int(top), int(left + width), int(top + height)]
        (draw.ellipse if number % 2 else draw.rectangle)(box, fill=colour, outline="black")
    return image

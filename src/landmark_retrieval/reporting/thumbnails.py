"""Small pictures for pages."""

from __future__ import annotations

import io
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from landmark_retrieval.images import Source, UnreadableImageError, load_image

QUALITY = 78
"""JPEG quality of thumbnails."""


def thumbnails(paths: Mapping[int, Path | Source], side: int) -> dict[int, bytes]:
    """Return small JPEG pictures; an image that cannot be read becomes a grey square.

    Args:
        paths: image row to file.
        side: long side in pixels; smaller images are not enlarged.

    Returns:
        Image row to the bytes of a JPEG file, in the order of `paths`.
    """
    with ThreadPoolExecutor() as pool:
        pictures = pool.map(lambda path: thumbnail(path, side), paths.values())
        return dict(zip(paths, pictures, strict=True))


def thumbnail(path: Path | Source, side: int) -> bytes:
    """Return one picture, as `thumbnails`."""
    try:
        image = load_image(path, at_least=side)
        image.thumbnail((side, side))
    except UnreadableImageError:
        return placeholder(side)
    return _jpeg(image)


def placeholder(side: int) -> bytes:
    """Return a grey square as a JPEG file, for an image that cannot be shown."""
    return _jpeg(Image.new("RGB", (side, side), "#9a9a9a"))


def _jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY, optimize=True)
    return file.getvalue()

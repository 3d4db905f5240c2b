"""Decoding of photographs: one function for every reader in the project."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

MIN_SIDE = 16
"""Images whose short side is below this many pixels carry nothing to describe and count as unreadable."""

MAX_PIXELS = 200_000_000
"""Images with more pixels than this are refused before decoding (decompression bombs)."""


class UnreadableImageError(Exception):
    """A single image cannot be used; callers skip it, count it and report it by name."""


def load_image(path: str | Path, at_least: int | None = None) -> Image.Image:
    """Decode an image file to 8-bit RGB, upright according to its EXIF orientation.

    Animations give their first frame; 16-bit, palette, grey, CMYK and transparent images are converted
    (transparency on white).

    Args:
        path: the image file.
        at_least: the caller shrinks the image to this long side in pixels or less anyway: a large JPEG may
            be decoded at 1/2, 1/4 or 1/8 of its size, which is several times faster, as long as its long
            side stays at least 1.5 times this and its short side four times `MIN_SIDE`. None decodes at full
            size.

    Returns:
        An RGB image of at least `MIN_SIDE` pixels a side.

    Raises:
        UnreadableImageError: the file is missing, truncated, not an image, too small or too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise UnreadableImageError(
                        f"{image.width}x{image.height} pixels, more than {MAX_PIXELS} allowed"
                    )
                if at_least is not None:
                    ratio = min(1.0, max(1.5 * at_least / max(image.size), 4 * MIN_SIDE / min(image.size)))
                    image.draft(None, (round(image.width * ratio), round(image.height * ratio)))
                image.load()
                upright = ImageOps.exif_transpose(image)
                rgb = _to_rgb(upright)
    except UnreadableImageError:
        raise
    except FileNotFoundError:
        raise UnreadableImageError("file not found") from None
    except Image.DecompressionBombError as error:
        raise UnreadableImageError(str(error)) from None
    except Exception as error:  # decoders raise many types on damaged files
        raise UnreadableImageError(f"cannot be decoded ({type(error).__name__}: {error})") from None
    if min(rgb.size) < MIN_SIDE:
        raise UnreadableImageError(f"{rgb.width}x{rgb.height} pixels, below {MIN_SIDE} on one side")
    return rgb


def file_state(path: str | Path) -> tuple[int, int]:
    """Return size in bytes and time of change in ns of a file, (-1, -1) when it is missing.

    Fingerprints of what was computed from an image contain this, so that a changed photo is read again.
    """
    try:
        status = Path(path).stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def resize_long_side(image: Image.Image, max_side: int, min_side: int = 32) -> Image.Image:
    """Shrink an image so that its long side is at most `max_side`; never enlarge its long side.

    The aspect ratio is kept, but the short side is not let under `min_side` pixels (panoramic strips).

    Args:
        image: any image.
        max_side: longest side of the result in pixels.
        min_side: shortest side of the result in pixels.

    Returns:
        The resized image, or the image itself when it fits already.
    """
    scale = min(1.0, max_side / max(image.size))
    width, height = (max(min_side, round(side * scale)) for side in image.size)
    if (width, height) == image.size:
        return image
    return image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values: NDArray[np.float64] = np.asarray(image, dtype=np.float64)
        top = 65535.0 if values.max(initial=0) > 255 else 255.0
        return Image.fromarray(np.uint8(np.clip(values / top, 0, 1) * 255)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")

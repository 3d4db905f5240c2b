"""Photos as they are given: files, bytes, pictures or pixels."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from landmark_retrieval.images import UnreadableImageError, load_image

Photo = str | os.PathLike[str] | bytes | Image.Image | NDArray[Any]
"""A photo: its file, the bytes of a file, a picture of Pillow, or pixels uint8 `[h, w, 3]` or `[h, w]`."""


@contextmanager
def as_file(photo: Photo) -> Iterator[str]:
    """Give a photo as a file, which lasts as long as the block.

    Raises:
        UnreadableImageError: it is no photo.
    """
    if isinstance(photo, str | os.PathLike):
        load_image(os.fspath(photo), at_least=1)
        yield os.fspath(photo)
        return
    with tempfile.TemporaryDirectory(prefix="photo-") as folder:
        file = Path(folder, "photo")
        file.write_bytes(photo if isinstance(photo, bytes) else _encoded(photo))
        load_image(file, at_least=1)
        yield str(file)


def _encoded(photo: Image.Image | NDArray[Any]) -> bytes:
    """Return a picture or pixels as a lossless file."""
    if not isinstance(photo, Image.Image):
        pixels = np.asarray(photo)
        if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,), (4,)):
            raise UnreadableImageError(
                f"an array of {pixels.dtype} {list(pixels.shape)} where uint8 [height, width, 3] is wanted"
            )
        photo = Image.fromarray(pixels)
    stream = io.BytesIO()
    photo.save(stream, "PNG", compress_level=1, exif=photo.getexif())
    return stream.getvalue()


def as_bytes(photo: Photo) -> bytes:
    """Return a photo as the bytes of a file.

    Raises:
        UnreadableImageError: it is no photo.
    """
    with as_file(photo) as file:
        return Path(file).read_bytes()


def name_of(photo: Photo) -> str:
    """Return the name of a photo's file without its ending, "photo" for one without a file."""
    return Path(os.fspath(photo)).stem if isinstance(photo, str | os.PathLike) else "photo"

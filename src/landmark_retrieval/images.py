"""Decoding of photographs: one function for every reader in the project."""

from __future__ import annotations

import errno
import hashlib
import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pillow_heif
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from landmark_retrieval.errors import LandmarkRetrievalError

MIN_SIDE = 16
"""Images whose short side is below this many pixels carry nothing to describe and count as unreadable."""

MAX_DECODED_BYTES = 2**30
"""Images that would take more memory than this while they are decoded are refused before it (bombs)."""

LARGE_PIXELS = 50_000_000
"""Whole images with more pixels than this are made smaller, while or right after they are decoded."""

_NO_PHOTOS = frozenset({"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG", "FITS", "SPIDER", "MCIDAS"})
"""What Pillow opens but what needs programs of its own, only has a stub, or holds no photos."""

_SURE = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "JPEG2000", "AVIF", "HEIF")
"""Formats that are known by their first bytes alone, without a fitting name of the file."""

Image.init()
pillow_heif.register_heif_opener()
Image.MAX_IMAGE_PIXELS = None  # `load_image` has its own limit, which knows how a format is decoded

FORMATS = tuple(sorted(name for name in Image.OPEN if name not in _NO_PHOTOS))
"""Formats that are decoded: Pillow's, and HEIC by pillow-heif."""

SUFFIXES = frozenset(
    suffix for suffix, name in Image.registered_extensions().items() if name in (*FORMATS, "MPO")
)
"""Endings of file names, in lower case, that promise one of `FORMATS`."""


TRANSIENT = frozenset(
    {errno.EIO, errno.EAGAIN, errno.EINTR, errno.ENFILE, errno.EMFILE, errno.ENOMEM, errno.ESTALE}
    | {errno.ETIMEDOUT, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH}
)
"""Errors of the system or of a file server, which say nothing about a photo."""


class UnreadableImageError(Exception):
    """A single image cannot be used; callers skip it, count it and report it by name.

    Args:
        reason: in words.
        passing: whether the same bytes may be read another time (a file that is missing, may not be opened
            or whose disk fails), so that nobody keeps this.
    """

    def __init__(self, reason: str, passing: bool = False) -> None:
        super().__init__(reason)
        self.passing = passing


@dataclass(frozen=True)
class CroppedImage(os.PathLike[str]):
    """A part of an image file; stands wherever a path does, and `load_image` decodes the part.

    Attributes:
        path: the image file.
        box: left, top, right, bottom in pixels of the upright image; parts outside the image are cut off.
    """

    path: str
    box: tuple[float, float, float, float]

    def __fspath__(self) -> str:
        return self.path

    def __str__(self) -> str:
        return f"{self.path} [{' '.join(f'{side:g}' for side in self.box)}]"


@dataclass(frozen=True)
class TurnedImage(os.PathLike[str]):
    """An image file or a part of one, turned; stands wherever a path does.

    Attributes:
        source: the upright image.
        turn: 90, 180 or 270 degrees, counter-clockwise.
    """

    source: str | CroppedImage
    turn: int

    def __fspath__(self) -> str:
        return os.fspath(self.source)

    def __str__(self) -> str:
        return f"{self.source} turned by {self.turn}°"


Source = str | CroppedImage | TurnedImage
"""Where an image of a table is: its file, or a part of its file, as it is or turned."""

TURNS = {
    90: Image.Transpose.ROTATE_90,
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_270,
}
"""Turns in degrees, counter-clockwise, that move pixels without changing them."""


def image_sources(table: pd.DataFrame) -> list[Source]:
    """Return where every image of a table is.

    Args:
        table: column `path`, and optionally `crop` ("left top right bottom" in pixels, empty for none) and
            `turn` (degrees counter-clockwise, 0 for none).
    """
    sources: list[Source] = [*table["path"].astype(str)]
    if "crop" in table:
        crops = table["crop"].reset_index(drop=True).dropna()
        for row, text in crops.items():
            left, top, right, bottom = map(float, str(text).split())
            sources[int(str(row))] = CroppedImage(str(sources[int(str(row))]), (left, top, right, bottom))
    if "turn" in table:
        for row, turn in enumerate(table["turn"].to_numpy(np.int64).tolist()):
            sources[row] = turned_source(sources[row], turn)
    return sources


def turned_source(source: Source, turn: int) -> Source:
    """Return an image turned by some degrees (counter-clockwise, a multiple of 90) from how it stands now."""
    upright, before = (source.source, source.turn) if isinstance(source, TurnedImage) else (source, 0)
    turn = (before + turn) % 360
    return TurnedImage(upright, turn) if turn else upright


def upright_points(points: NDArray[np.float32], turn: int, size: tuple[int, int]) -> NDArray[np.float32]:
    """Return where points of a turned image lie in the upright one.

    Args:
        points: `[m, 2]` x and y in pixels of the turned image, pixel centres at integers.
        turn: 0 or one of `TURNS`.
        size: width and height of the upright image.
    """
    width, height = size
    x, y = points[:, 0], points[:, 1]
    if turn == 90:
        x, y = width - 1 - y, x
    elif turn == 180:
        x, y = width - 1 - x, height - 1 - y
    elif turn == 270:
        x, y = y, height - 1 - x
    return np.stack([x, y], axis=1)


def is_picture(path: str | Path) -> bool:
    """Tell by its first bytes whether a file is a picture, whatever it is called; nothing is decoded."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=_SURE):
                return True
    except Exception:  # plugins raise many types on what is not theirs
        return False


def load_image(
    path: str | Path | CroppedImage | TurnedImage,
    at_least: int | None = None,
    max_pixels: int | None = None,
) -> Image.Image:
    """Decode an image file to 8-bit RGB, upright according to its EXIF orientation.

    Animations give their first frame; 16-bit, palette, grey, CMYK and transparent images are converted
    (transparency on white). Whole images of more than `LARGE_PIXELS` come out smaller by a whole factor,
    always the same one, so a panorama takes no more memory than a photo.

    Args:
        path: the image file, or a part of one.
        at_least: the caller shrinks the image to this long side in pixels or less anyway: a large JPEG may
            be decoded at 1/2, 1/4 or 1/8 of its size, which is several times faster, as long as its long
            side stays at least 1.5 times this and its short side four times `MIN_SIDE`. None decodes at full
            size, as parts of images always are.
        max_pixels: images with more are refused before decoding; None for no limit but that of memory.

    Returns:
        An RGB image of at least `MIN_SIDE` pixels a side.

    Raises:
        UnreadableImageError: the file is missing, truncated, not an image, too small or too large; or the
            part lies outside the image.
        LandmarkRetrievalError: the system cannot read it now (`TRANSIENT`).
        MemoryError: there is no memory for it now.
    """
    if isinstance(path, TurnedImage):
        return load_image(path.source, at_least, max_pixels).transpose(TURNS[path.turn])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                if max_pixels is not None and image.width * image.height > max_pixels:
                    raise UnreadableImageError(
                        f"{image.width}x{image.height} pixels, more than {max_pixels} allowed"
                    )
                whole = not isinstance(path, CroppedImage)
                factor = _reduction(image.size) if whole else 1
                drafted = _draft(image, at_least, factor) if whole else 1
                _check_memory(image, drafted)
                image.load()
                smaller = _reduce(image, -(-factor // drafted))
                upright: Image.Image = ImageOps.exif_transpose(smaller)
                if isinstance(path, CroppedImage):
                    upright = _crop(upright, path.box)
                rgb = _to_rgb(upright)
    except (UnreadableImageError, MemoryError):
        raise
    except FileNotFoundError:
        raise UnreadableImageError("file not found", passing=True) from None
    except UnidentifiedImageError:
        raise UnreadableImageError(f"cannot be decoded ({_unknown(path)})") from None
    except Exception as error:  # decoders raise many types on damaged files
        _raise_if_transient(path, error)
        if isinstance(error, OSError) and error.errno is not None:  # of the system, not of a decoder
            raise UnreadableImageError(f"cannot be read ({error.strerror})", passing=True) from None
        raise UnreadableImageError(f"cannot be decoded ({type(error).__name__}: {error})") from None
    if min(rgb.size) < MIN_SIDE:
        raise UnreadableImageError(f"{rgb.width}x{rgb.height} pixels, below {MIN_SIDE} on one side")
    return rgb


def upright_size(path: Source) -> tuple[int, int]:
    """Return width and height in pixels of what `load_image` gives, undecoded; (0, 0) if it is unreadable."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as image:
                whole = not isinstance(path, CroppedImage)
                factor = _reduction(image.size) if whole else 1
                drafted = _draft(image, None, factor) if whole else 1
                size = [side // -(-factor // drafted) for side in image.size]
                turned = image.getexif().get(ExifTags.Base.Orientation) in (5, 6, 7, 8)
    except Exception:  # decoders raise many types on damaged files
        return 0, 0
    if isinstance(path, CroppedImage):
        left, top, right, bottom = path.box
        return round(right - left), round(bottom - top)
    return (size[1], size[0]) if turned else (size[0], size[1])


def _unknown(path: str | os.PathLike[str]) -> str:
    return "it is empty" if file_state(path)[0] == 0 else "its content is no picture of a known kind"


def _reduction(size: tuple[int, int]) -> int:
    """Return the whole factor that brings an image below `LARGE_PIXELS`."""
    factor = math.ceil(math.sqrt(size[0] * size[1] / LARGE_PIXELS))
    return max(1, min(factor, min(size) // (4 * MIN_SIDE)))


def _draft(image: Image.Image, at_least: int | None, factor: int) -> int:
    """Let a JPEG be decoded smaller, and return by which factor; 1 for other formats."""
    if image.format not in ("JPEG", "MPO"):
        return 1
    ratio = 1.0
    if at_least is not None:
        ratio = min(1.0, max(1.5 * at_least / max(image.size), 4 * MIN_SIDE / min(image.size)))
    wanted = max(step for step in (1, 2, 4, 8) if step <= 1 / ratio)
    needed = min(8, 1 << (factor - 1).bit_length())
    step = max(wanted, needed)
    width = image.width
    image.draft(None, (image.width // step, image.height // step))
    return round(width / image.width)


def _check_memory(image: Image.Image, drafted: int) -> None:
    """Refuse an image that would take more than `MAX_DECODED_BYTES` to decode, and say its size."""
    depth = {"1": 1, "L": 1, "I;16": 6, "I;16B": 6}.get(image.mode, 4)
    if image.mode in ("P", "PA", "LA", "RGBA") or "transparency" in image.info:
        depth = 8  # converted before it can be reduced
    if image.format in ("WEBP", "AVIF", "HEIF"):
        depth = max(depth, 8)  # their libraries hold a second copy
    needed = image.width * image.height * depth
    if image.info.get("progressive"):  # all coefficients are held, 2 bytes each
        planes = [across * down for _, across, down, _ in image.layer]  # type: ignore[attr-defined]
        needed += image.width * image.height * drafted**2 * 2 * sum(planes) // max(planes)
    if needed > MAX_DECODED_BYTES:
        raise UnreadableImageError(
            f"{image.width * drafted}x{image.height * drafted} pixels, decoding would take "
            f"{needed / 2**30:.1f} GiB of memory, more than {MAX_DECODED_BYTES / 2**30:g} allowed"
        )


def _reduce(image: Image.Image, factor: int) -> Image.Image:
    """Make an image smaller by a whole factor, as the mean of squares of pixels; it keeps its orientation."""
    if factor <= 1:
        return image
    if image.mode.startswith("I;16"):
        values = np.asarray(image)
        height, width = (side // factor for side in values.shape)
        total = np.zeros((height, width), np.uint32)
        for top, left in np.ndindex(factor, factor):
            total += values[top::factor, left::factor][:height, :width]
        smaller = Image.fromarray((total // factor**2).astype(np.uint16))
    else:
        if image.mode in ("1", "P", "PA"):
            clear = image.mode == "PA" or "transparency" in image.info
            image = image.convert("L" if image.mode == "1" else "RGBA" if clear else "RGB")
        smaller = image.reduce(factor)
    orientation = image.getexif().get(ExifTags.Base.Orientation)
    if orientation is not None:
        smaller.getexif()[ExifTags.Base.Orientation] = orientation
    return smaller


def _raise_if_transient(path: str | os.PathLike[str], error: Exception) -> None:
    """Stop the run at an error that would make a photo count as unreadable for good."""
    if isinstance(error, OSError) and error.errno in TRANSIENT:
        raise LandmarkRetrievalError(
            f"{path}: cannot be read now ({error.strerror}); run again when it can, what is done is kept"
        ) from None


def file_state(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return size in bytes and time of change in ns of a file, (-1, -1) when it is missing."""
    try:
        status = Path(path).stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def content_digest(path: str | os.PathLike[str]) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of a file; "" when it cannot be read.

    A file is read once in a process as long as its size and its time of change stay as they are.

    Raises:
        LandmarkRetrievalError: the system cannot read it now (`TRANSIENT`).
    """
    return _content_digest(os.fspath(path), file_state(path))


@lru_cache(maxsize=1 << 16)
def _content_digest(path: str, state: tuple[int, int]) -> str:
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16]
    except OSError as error:
        _raise_if_transient(path, error)
        return ""


def source_contents(
    sources: Sequence[Source], contents: Sequence[str] | NDArray[np.str_] | None = None
) -> list[list[object]]:
    """Return what fingerprints of work on images hold of them, so that a changed photo is read again.

    Args:
        sources: images, or parts of them, of which the sides follow the digest, then the turn.
        contents: `content_digest` of each; read now when None.
    """
    digests = map(content_digest, sources) if contents is None else map(str, contents)
    return [[content, *_part(source)] for source, content in zip(sources, digests, strict=True)]


def _part(source: Source) -> list[float | str]:
    """Return what part of its file an image is, and how it is turned; nothing for the whole, upright file."""
    if isinstance(source, TurnedImage):
        return [*_part(source.source), f"turn {source.turn}"]
    return [*source.box] if isinstance(source, CroppedImage) else []


def photo_keys(
    sources: Sequence[Source], contents: Sequence[str] | NDArray[np.str_] | None = None
) -> NDArray[np.str_]:
    """Return what results of photos are kept by: digest of the bytes, crop box, turn.

    Args:
        sources: images, or parts of them.
        contents: `content_digest` of each; read now when None.

    Returns:
        `[n]`, such as `9f86d081884c7d65`, `9f86d081884c7d65@10,20,300,400` or `9f86d081884c7d65+90`; "" for
        files that cannot be read.
    """
    digests = map(content_digest, sources) if contents is None else map(str, contents)
    keys = [
        content and f"{content}{_suffix(source)}" for source, content in zip(sources, digests, strict=True)
    ]
    return np.array(keys, dtype=str)


def _suffix(source: Source) -> str:
    if isinstance(source, TurnedImage):
        return f"{_suffix(source.source)}+{source.turn}"
    return f"@{','.join(map(repr, source.box))}" if isinstance(source, CroppedImage) else ""


def why_unreadable(source: Source) -> str:
    """Return why a file has no digest."""
    return "cannot be read" if Path(source).exists() else "file not found"


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


def _crop(image: Image.Image, box: tuple[float, float, float, float]) -> Image.Image:
    left, top, right, bottom = (round(side) for side in box)
    inside = max(left, 0), max(top, 0), min(right, image.width), min(bottom, image.height)
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        raise UnreadableImageError(
            f"the crop {left} {top} {right} {bottom} lies outside the {image.width}x{image.height} pixels"
        )
    return image.crop(inside)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        grey = np.asarray(image)
        return Image.fromarray(np.uint8(grey // 257 if grey.max(initial=0) > 255 else grey)).convert("RGB")
    if image.mode in ("I", "F"):
        values: NDArray[np.float64] = np.asarray(image, dtype=np.float64)
        top = 65535.0 if values.max(initial=0) > 255 else 255.0
        return Image.fromarray(np.uint8(np.clip(values / top, 0, 1) * 255)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")

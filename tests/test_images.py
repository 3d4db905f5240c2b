import errno
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from landmark_retrieval import images
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.images import (
    MIN_SIDE,
    SUFFIXES,
    UnreadableImageError,
    content_digest,
    is_picture,
    load_image,
    resize_long_side,
)


def gradient(width=64, height=40):
    """An RGB image that is red to the right and green to the bottom."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, np.full_like(x, 60)], axis=-1).astype(np.uint8))


def difference(a, b):
    return np.abs(np.asarray(a, dtype=float) - np.asarray(b, dtype=float)).mean()


@pytest.mark.parametrize(
    ("orientation", "undo"),
    [
        (1, None),
        (2, Image.Transpose.FLIP_LEFT_RIGHT),
        (3, Image.Transpose.ROTATE_180),
        (4, Image.Transpose.FLIP_TOP_BOTTOM),
        (5, Image.Transpose.TRANSPOSE),
        (6, Image.Transpose.ROTATE_90),
        (7, Image.Transpose.TRANSVERSE),
        (8, Image.Transpose.ROTATE_270),
    ],
)
def test_exif_orientation_is_undone(tmp_path, orientation, undo):
    upright = gradient()
    stored = upright if undo is None else upright.transpose(undo)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.jpg", exif=exif, quality=95)
    loaded = load_image(tmp_path / "a.jpg")
    assert loaded.size == upright.size
    assert difference(loaded, upright) < 4


def test_damaged_exif_does_not_matter(tmp_path):
    gradient().save(tmp_path / "a.jpg", exif=b"Exif\x00\x00garbage that is no TIFF header")
    assert load_image(tmp_path / "a.jpg").size == (64, 40)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits_keep_their_brightness(tmp_path, suffix):
    grey = np.asarray(gradient().convert("L"))
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / f"a.{suffix}")
    loaded = load_image(tmp_path / f"a.{suffix}")
    assert loaded.mode == "RGB"
    assert difference(loaded, Image.fromarray(grey).convert("RGB")) < 2


def test_float_images(tmp_path):
    values = np.asarray(gradient().convert("L"), dtype=np.float32)
    Image.fromarray(values).save(tmp_path / "a.tiff")
    assert (
        difference(load_image(tmp_path / "a.tiff"), Image.fromarray(values.astype(np.uint8)).convert("RGB"))
        < 2
    )


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        ("CMYK", "a.jpg"),
        ("L", "a.png"),
        ("P", "a.png"),
        ("P", "a.gif"),
        ("YCbCr", "a.jpg"),
        ("LAB", "a.tiff"),
        ("1", "a.png"),
        ("RGBA", "a.png"),
        ("LA", "a.png"),
    ],
)
def test_other_modes_become_rgb(tmp_path, mode, name):
    source = gradient()
    if mode == "LAB":
        from PIL import ImageCms

        lab = ImageCms.createProfile("LAB")
        source = ImageCms.profileToProfile(source, ImageCms.createProfile("sRGB"), lab, outputMode="LAB")
    else:
        source = source.convert(mode)
    source.save(tmp_path / name)
    loaded = load_image(tmp_path / name)
    assert loaded.mode == "RGB" and loaded.size == (64, 40)
    if mode in ("CMYK", "YCbCr", "RGBA"):
        assert difference(loaded, gradient()) < 6


def test_transparency_lies_on_white(tmp_path):
    clear = Image.new("RGBA", (32, 32), (255, 0, 0, 0))
    clear.save(tmp_path / "a.png")
    assert load_image(tmp_path / "a.png").getpixel((5, 5)) == (255, 255, 255)
    palette = Image.new("P", (32, 32), 0)
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.save(tmp_path / "b.png", transparency=0)
    assert load_image(tmp_path / "b.png").getpixel((5, 5)) == (255, 255, 255)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_an_animation_gives_its_first_frame(tmp_path, suffix):
    frames = [Image.new("RGB", (40, 40), color) for color in ("red", "blue")]
    path = tmp_path / f"a.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=50)
    red, green, blue = load_image(path).getpixel((20, 20))
    assert red > 240 and green < 15 and blue < 15


def test_truncated_files_are_unreadable(tmp_path):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8))
    for name in ("a.jpg", "a.png", "a.webp"):
        path = tmp_path / name
        noise.save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(UnreadableImageError):
            load_image(path)


def test_what_is_no_image_is_unreadable(tmp_path):
    (tmp_path / "text.jpg").write_text("this is not a photograph")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "folder.jpg").mkdir()
    for name in ("text.jpg", "empty.jpg", "folder.jpg"):
        with pytest.raises(UnreadableImageError, match=r"cannot be (decoded|read)"):
            load_image(tmp_path / name)
    with pytest.raises(UnreadableImageError, match="file not found"):
        load_image(tmp_path / "missing.jpg")


@pytest.mark.parametrize("size", [(1, 1), (MIN_SIDE - 1, 500), (500, MIN_SIDE - 1)])
def test_tiny_images_are_unreadable(tmp_path, size):
    Image.new("RGB", size).save(tmp_path / "a.png")
    with pytest.raises(UnreadableImageError, match=f"{size[0]}x{size[1]} pixels, below"):
        load_image(tmp_path / "a.png")


def test_a_panorama_is_readable(tmp_path):
    Image.new("RGB", (20000, 50), "grey").save(tmp_path / "a.jpg")
    image = load_image(tmp_path / "a.jpg")
    assert image.size == (20000, 50)
    assert resize_long_side(image, 480).size == (480, 32)
    assert load_image(tmp_path / "a.jpg", at_least=480).size == (20000, 50), "not thinner than needed"


def test_huge_images_are_refused_before_decoding(tmp_path):
    gradient().save(tmp_path / "a.jpg")
    with pytest.raises(UnreadableImageError, match="64x40 pixels, more than 1000"):
        load_image(tmp_path / "a.jpg", max_pixels=1000)
    header = struct.pack(">4s2I5B", b"IHDR", 60_000, 50_000, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    data = b"IDAT" + zlib.compress(b"")
    bomb += struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
    (tmp_path / "bomb.png").write_bytes(bomb)
    with pytest.raises(UnreadableImageError, match=r"60000x50000 pixels, decoding would take 2\.8 GiB"):
        load_image(tmp_path / "bomb.png")


@pytest.mark.parametrize(
    ("mode", "name"),
    [
        *[("RGB", "a.jpg"), ("CMYK", "a.jpg"), ("L", "a.png"), ("P", "a.png"), ("1", "a.png")],
        *[("I;16", "a.png"), ("RGB", "a.webp"), ("RGBA", "a.png"), ("RGB", "a.tif")],
    ],
)
def test_large_images_come_out_smaller_and_alike(tmp_path, monkeypatch, mode, name):
    upright = gradient(310, 200)
    stored = upright.transpose(Image.Transpose.ROTATE_90)
    if mode == "I;16":
        stored = Image.fromarray(np.asarray(stored.convert("L")).astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6
    stored.convert(mode).save(tmp_path / name, exif=exif)
    whole = load_image(tmp_path / name)
    assert whole.size == (310, 200)
    monkeypatch.setattr(images, "LARGE_PIXELS", 310 * 200 // 3)
    smaller = load_image(tmp_path / name)
    assert smaller.size == (155, 100)
    assert difference(whole.resize(smaller.size, Image.Resampling.BOX), smaller) < (12 if mode == "1" else 3)
    part = load_image(images.CroppedImage(str(tmp_path / name), (0, 0, 300, 200)))
    assert part.size == (300, 200), "parts are given in pixels of the whole image"


@pytest.mark.parametrize(
    "name", ["photo.heic", "photo.jfif", "photo.jpe", "photo.avif", "photo.jp2", "a.mpo", "x"]
)
def test_content_decides_not_the_ending(tmp_path, name):
    kinds = {".heic": "HEIF", ".avif": "AVIF", ".jp2": "JPEG2000", ".mpo": "MPO"}
    gradient().save(tmp_path / name, format=kinds.get(Path(name).suffix, "JPEG"))
    assert difference(load_image(tmp_path / name), gradient()) < 6
    assert is_picture(tmp_path / name)
    assert Path(name).suffix in {*SUFFIXES, ""}
    (tmp_path / name).write_text("P5 is how a text may begin, too")
    assert not is_picture(tmp_path / name)
    with pytest.raises(UnreadableImageError, match="cannot be decoded"):
        load_image(tmp_path / name)


def test_formats_that_need_other_programs_are_not_decoded(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n")
    with pytest.raises(UnreadableImageError, match="cannot be decoded"):
        load_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("orientation", [1, 6])
def test_large_jpegs_are_decoded_smaller_when_allowed(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    gradient(1600, 1000).save(tmp_path / "a.jpg", quality=95, exif=exif)
    full = load_image(tmp_path / "a.jpg")
    reduced = load_image(tmp_path / "a.jpg", at_least=200)
    assert max(full.size) == 1600
    assert 300 <= max(reduced.size) < 1600
    assert (full.width > full.height) == (reduced.width > reduced.height)
    small = resize_long_side(full, 200)
    assert difference(small, reduced.resize(small.size, Image.Resampling.BICUBIC)) < 3
    assert load_image(tmp_path / "a.jpg", at_least=900).size == full.size


@pytest.mark.parametrize(
    ("size", "limit", "expected"),
    [
        ((640, 480), 320, (320, 240)),
        ((480, 640), 320, (240, 320)),
        ((100, 50), 320, (100, 50)),
        ((100, 20), 320, (100, 32)),
        ((321, 320), 320, (320, 319)),
    ],
)
def test_long_side_is_limited_and_never_enlarged(size, limit, expected):
    assert resize_long_side(Image.new("RGB", size), limit).size == expected


def test_an_image_that_fits_is_returned_as_it_is():
    image = gradient()
    assert resize_long_side(image, 64) is image


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.EMFILE])
def test_errors_of_the_system_do_not_make_a_photo_unreadable(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = tmp_path / "photo.png"
    Image.new("RGB", (40, 30)).save(photo)

    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(Image, "open", fail)
        with pytest.raises(LandmarkRetrievalError, match=r"photo\.png: cannot be read now .*; run again"):
            load_image(photo)
        patch.setattr(Path, "open", fail)
        with pytest.raises(LandmarkRetrievalError, match="cannot be read now"):
            content_digest(photo)
    assert len(content_digest(photo)) == 16
    assert load_image(photo).size == (40, 30)


def test_no_memory_is_not_a_fault_of_the_photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(MemoryError):
        load_image(tmp_path / "photo.png")

"""One folder with every kind of file that was ever met, and what must become of each."""

from __future__ import annotations

import os
import struct
import unicodedata
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from landmark_retrieval.collection import prepare_collection, read_collection
from landmark_retrieval.collection.audit import audit_files, audit_in_words, leaks
from landmark_retrieval.images import UnreadableImageError, content_digest, load_image
from pictures import render

NFD = unicodedata.normalize("NFD", "Café")
EXPECTED = {
    "plain.jpg": "used",
    "UPPER.JPG": "used",
    "sideways.jpg": "used",
    "photo.jfif": "used",
    "photo.jpe": "used",
    "photo.avif": "used",
    "photo.jp2": "used",
    "photo.mpo": "used",
    "photo.heic": "used",
    "phone.HEIF": "used",
    "no_suffix": "used",
    "really_png.jpg": "used",
    "named.txt": "used",  # content decides
    "Screenshot 10.15\u202fPM.png": "used",
    "no\u00a0break.png": "used",
    "family\u200dname.png": "used",
    "comma, and 'quotes\".png": "used",
    f"{NFD}.png": "used",
    "depth16.png": "used",
    "cmyk.jpg": "used",
    "palette.png": "used",
    "grey_alpha.png": "used",
    "animated.gif": "used",
    "strip.png": "used",
    "deep/er/still.webp": "used",
    "z copy of plain.jpg": "same bytes",
    "linked/elsewhere.png": "used",
    "dot.png": "cannot be decoded",
    "truncated.jpg": "cannot be decoded",
    "text.jpg": "cannot be decoded",
    "empty.jpg": "cannot be decoded",
    "bomb.png": "cannot be decoded",
    "raw.NEF": "cannot be decoded",
    "link_to_plain.jpg": "linked twice",
    "second_name.jpg": "linked twice",
    "circle": "linked twice",
    "broken.jpg": "missing",
    "notes.md": "not a picture",
    "film.mp4": "not a picture",
    "pipe": "not a picture",
    ".DS_Store": "hidden",
    "deep/._plain.jpg": "hidden",
    "@eaDir": "hidden",
    "line\\nfeed.jpg": "cannot be read",
}


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises to be large and holds nothing."""
    parts = [struct.pack(">4s2I5B", b"IHDR", width, height, 8, 2, 0, 0, 0), b"IDAT" + zlib.compress(b"")]
    chunks = [struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part)) for part in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.fixture(scope="module")
def every_kind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("every") / "kind"
    outside = folder.parent / "outside"
    for made in (folder / "deep/er", folder / "@eaDir", outside):
        made.mkdir(parents=True)
    views = iter(range(100))

    def save(name: str, kind: str | None = None, image: Image.Image | None = None, **options: object) -> None:
        (image or render(1, next(views))).save(folder / name, kind, **options)

    exif = Image.Exif()
    exif[0x0112] = 6
    for name in ("plain.jpg", "UPPER.JPG", "deep/er/still.webp"):
        save(name)
    save("sideways.jpg", exif=exif)
    kinds = {"photo.jfif": "JPEG", "photo.jpe": "JPEG", "photo.heic": "HEIF", "phone.HEIF": "HEIF"}
    kinds |= {"no_suffix": "JPEG", "really_png.jpg": "PNG", "named.txt": "WEBP", "photo.avif": "AVIF"}
    for name, kind in {**kinds, "photo.jp2": "JPEG2000", "photo.mpo": "MPO"}.items():
        save(name, kind)
    for name in EXPECTED:
        if (EXPECTED[name] == "used" and name.endswith(".png") and not name.isascii()) or "quotes" in name:
            save(name)
    grey = np.asarray(render(2, 0).convert("L"))
    save("depth16.png", image=Image.fromarray(grey.astype(np.uint16) * 257))
    save("cmyk.jpg", image=render(2, 1).convert("CMYK"))
    save("palette.png", image=render(2, 2).convert("P"), transparency=0)
    save("grey_alpha.png", image=render(2, 3).convert("LA"))
    save("animated.gif", image=render(2, 4), save_all=True, append_images=[render(2, 5)])
    save("strip.png", image=render(2, 6, (17, 4000)))
    save("dot.png", image=Image.new("RGB", (1, 1)))
    render(2, 7).save(outside / "elsewhere.png")
    whole = (folder / "plain.jpg").read_bytes()
    (folder / "z copy of plain.jpg").write_bytes(whole)
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "bomb.png").write_bytes(png_header(60_000, 50_000))
    (folder / "film.mp4").write_bytes(b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41")
    for name in ("text.jpg", "raw.NEF", "notes.md", ".DS_Store", "deep/._plain.jpg", "@eaDir/thumb.jpg"):
        (folder / name).write_text("text\n")
    (folder / "empty.jpg").touch()
    (folder / "line\nfeed.jpg").write_bytes(whole)
    (folder / "linked").symlink_to(outside)
    (folder / "circle").symlink_to(folder)
    (folder / "link_to_plain.jpg").symlink_to("plain.jpg")
    (folder / "second_name.jpg").hardlink_to(folder / "plain.jpg")
    (folder / "broken.jpg").symlink_to("gone.jpg")
    os.mkfifo(folder / "pipe")
    return folder


def audited(root: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Audit a folder as the features pipeline does, with `load_image` in place of the networks."""
    raw = read_collection(root)
    raw.table["split"] = ["query", *["index"] * (len(raw.table) - 1)]
    raw.table["landmark_id"] = "1"
    images = prepare_collection(raw)
    skipped = []
    for image_id, path in zip(images["image_id"], images["path"], strict=True):
        try:
            load_image(path)
        except UnreadableImageError as error:
            skipped.append((image_id, str(error)))
    contents = np.array([content_digest(path) for path in images["path"]])
    reasons = pd.DataFrame(skipped, columns=["image_id", "reason"])
    return audit_files(raw.files, images, contents, reasons), images


def test_every_file_is_accounted_for(every_kind: Path) -> None:
    audit, _ = audited(every_kind)
    assert dict(zip(audit["path"], audit["what"], strict=True)) == EXPECTED
    rows = audit.set_index("path")
    assert rows["other"]["z copy of plain.jpg"] in ("plain.jpg", "second_name.jpg")
    assert {rows["other"][name] for name in ("link_to_plain.jpg", "second_name.jpg")} <= {"plain.jpg"}
    for name, word in {
        "dot.png": "1x1 pixels",
        "truncated.jpg": "truncated",
        "empty.jpg": "empty",
        "bomb.png": "60000x50000 pixels",
        "raw.NEF": "raw file of a camera",
        "broken.jpg": "gone.jpg",
        "line\\nfeed.jpg": "rename it",
    }.items():
        assert word in rows["why"][name], name
    used = audit[audit["image_id"] != ""]
    assert used["image_id"].is_unique and not used["image_id"].str.contains(r'[\s,"]').any()
    assert audit_in_words(audit).startswith(
        "44 files: 26 used, 1 same bytes, 6 cannot be decoded, 1 cannot be "
    )


def test_an_audit_is_read_back_as_it_was(every_kind: Path, tmp_path: Path) -> None:
    audit, images = audited(every_kind)
    for table in (audit, images):
        table.to_csv(tmp_path / "table.csv", index=False)
        again = pd.read_csv(tmp_path / "table.csv", dtype=str, keep_default_na=False)
        assert again["path"].tolist() == table["path"].tolist()


def test_copies_in_two_splits_are_leaks(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png", "d.png"):
        render(1, 0 if name < "d" else 1).save(tmp_path / name)
    audit, images = audited(tmp_path)
    assert sorted(audit["what"]) == ["same bytes", "same bytes", "used", "used"]
    assert sorted(leaks(audit, images)) == [("b", "a"), ("c", "a")], "a is the query"


def test_a_table_stands_for_files_that_nobody_looked_for(every_kind: Path) -> None:
    images = pd.DataFrame({"image_id": ["a", "b"], "path": ["a.jpg", "b.jpg"], "landmark_id": [1, 2]})
    skipped = pd.DataFrame({"image_id": ["b"], "reason": ["file not found"]})
    audit = audit_files(pd.DataFrame(), images, np.array(["1", ""]), skipped)
    assert audit["what"].tolist() == ["used", "cannot be decoded"]
    assert audit["why"].tolist() == ["", "file not found"]

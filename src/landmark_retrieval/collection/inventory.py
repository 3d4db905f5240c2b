"""What of a public data set is on this disk, and where the rest is published."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from landmark_retrieval.collection.download import is_done
from landmark_retrieval.collection.gldv2 import FOLDERS, find_table
from landmark_retrieval.collection.revisited import (
    DISTRACTORS,
    find_distractors,
    find_ground_truth,
    read_ground_truth,
)
from landmark_retrieval.collection.sources import GIB, Source, sources
from landmark_retrieval.errors import LandmarkRetrievalError

SAMPLE = 1000
"""Images of each folder that are looked for unless all are."""


@dataclass(frozen=True)
class Item:
    """One thing that belongs to a data set.

    Attributes:
        part: what `download --part` calls it.
        name: for people.
        complete: whether it is all there.
        found: what there is, in words.
        required: whether the data set can be used without it.
        missing: the published files that would complete it.
    """

    part: str
    name: str
    complete: bool
    found: str
    required: bool = True
    missing: tuple[Source, ...] = ()


def inventory(name: str, root: str | Path, everything: bool = False) -> list[Item]:
    """Look at what is there.

    Args:
        name: as in `sources.sources`.
        root: the data root; it need not exist.
        everything: look for every image instead of `SAMPLE` of each folder (minutes for millions).

    Returns:
        One item for every table and every folder of images.

    Raises:
        LandmarkRetrievalError: the data set is unknown, or a table that is there cannot be read.
    """
    published = sources(name)
    folder = Path(root).expanduser()
    if name == "gldv2":
        return _gldv2(folder, published, everything)
    if name == DISTRACTORS:
        return _distractors(folder, published, everything)
    return _revisited(folder, name, published)


def needed(items: Iterable[Item]) -> list[Item]:
    """Return the required items that are not complete."""
    return [item for item in items if item.required and not item.complete]


def format_inventory(name: str, root: str | Path, items: list[Item]) -> str:
    """Return what is there and what is missing as text, with addresses and the command to run next.

    Args:
        name: name of the data set.
        root: the data root.
        items: what was looked for, at least one.
    """
    width = max(len(item.name) for item in items)
    lines = [f"{name} in {root}"]
    for item in items:
        state = "complete" if item.complete else ("MISSING " if item.required else "optional")
        lines.append(f"  {state}  {item.name.ljust(width)}  {item.found}")
        if item.missing:
            indent = " " * (width + 14)
            first, last = item.missing[0], item.missing[-1]
            lines.append(
                f"{indent}{first.url}" + (f" to {last.url.rsplit('/', 1)[-1]}" if first != last else "")
            )
            size = sum(source.size for source in item.missing)
            checked = f"MD5 {first.md5_url}" if first.md5_url else "no checksum is published"
            lines.append(f"{indent}{_size(size)}, {checked}")
    absent = needed(items)
    if absent:
        parts = list(dict.fromkeys(item.part for item in absent))
        options = "".join(f" --part {part}" for part in parts)
        lines += ["", f"get what is missing: kedro data-set download {name} --data-root {root}{options}"]
    elif name in ("roxford5k", "rparis6k", "gldv2"):
        lines += ["", f"ready: kedro run --env {name} --params data_root={root}"]
    return "\n".join(lines)


def _gldv2(folder: Path, published: list[Source], everything: bool) -> list[Item]:
    items = []
    for source in published:
        if source.part == "metadata":
            name = source.target.rsplit("/", 1)[-1]
            items.append(_file(find_table(folder, name), name, source))
    for part in FOLDERS.values():
        table = find_table(folder, f"{part}.csv")
        ids = pd.Series(dtype="str")
        if table is not None:
            try:
                ids = pd.read_csv(table, usecols=["id"], dtype="str", keep_default_na=False)["id"]
            except (ValueError, OSError) as error:
                reason = " ".join(str(error).split())
                raise LandmarkRetrievalError(f"{table}: cannot be read as a table ({reason})") from None
        base = folder / part
        paths = [
            base / image_id[:1] / image_id[1:2] / image_id[2:3] / f"{image_id}.jpg"
            for image_id in (ids if everything else _sample(ids))
        ]
        archives = [source for source in published if source.part == part]
        items.append(_images(part, f"images in {part}/", paths, len(ids), archives, folder))
    return items


def _revisited(folder: Path, name: str, published: list[Source]) -> list[Item]:
    truth = [source for source in published if source.part == "ground_truth"]
    images = [source for source in published if source.part == "images"]
    try:
        place, file = find_ground_truth(folder, name)
    except LandmarkRetrievalError:
        return [
            _file(None, f"gnd_{name}.pkl", truth[0]),
            _images("images", f"images in {name}/jpg/", [], 0, images, folder),
            _million(folder, folder / name),
        ]
    content = read_ground_truth(file)
    paths = [place / "jpg" / f"{image}.jpg" for key in ("imlist", "qimlist") for image in content[key]]
    return [
        _file(file, file.name, truth[0]),
        _images("images", f"images in {place.name}/jpg/", paths, len(paths), images, folder),
        _million(folder, place),
    ]


def _million(folder: Path, place: Path) -> Item:
    found = find_distractors(folder, place)
    words = f"{found}" if found else f"only for distractors=true: kedro data-set check {DISTRACTORS}"
    return Item(DISTRACTORS, "a million distractors", found is not None, words, required=False)


def _distractors(folder: Path, published: list[Source], everything: bool) -> list[Item]:
    place = find_distractors(folder, folder / "any")
    file = place / f"{DISTRACTORS}.txt" if place else None
    if file is not None and not file.is_file():
        file = None
    names = pd.Series(file.read_text(encoding="utf-8").split() if file else [], dtype="str")
    base = (place or folder / DISTRACTORS) / "jpg"
    paths = [
        base / (name if "." in name else f"{name}.jpg") for name in (names if everything else _sample(names))
    ]
    archives = [source for source in published if source.part == "images"]
    return [
        _file(file, f"{DISTRACTORS}.txt", published[0]),
        _images("images", f"images in {DISTRACTORS}/jpg/", paths, len(names), archives, folder),
    ]


def _file(file: Path | None, name: str, source: Source) -> Item:
    if file is None:
        return Item(source.part, name, False, "not there", source.required, (source,))
    return Item(source.part, name, True, f"{_size(file.stat().st_size)}, {file}", source.required)


def _images(
    part: str, name: str, paths: list[Path], total: int, archives: list[Source], folder: Path
) -> Item:
    there = sum(path.is_file() for path in paths)
    missing = tuple(source for source in archives if not is_done(folder, source))
    if not paths:
        words = "not known, as the list of images is not there"
    elif len(paths) < total:
        words = f"{there:,} of a sample of {len(paths):,} are there ({total:,} listed)"
    else:
        words = f"{there:,} of {total:,} are there"
    complete = bool(paths) and there == len(paths)
    return Item(part, name, complete, words, True, () if complete else missing or tuple(archives))


def _sample(values: pd.Series) -> list[str]:
    rows = np.unique(np.linspace(0, len(values) - 1, min(SAMPLE, len(values))).round().astype(int))
    return values.iloc[rows].tolist()


def _size(size: int) -> str:
    if not size:
        return "size unknown"
    if size >= GIB:
        return f"{size / GIB:,.1f} GiB"
    return f"{size / 2**20:,.1f} MiB" if size >= 100_000 else f"{size:,} bytes"

"""Every file below a folder, and what it is; nothing is passed over in silence."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from landmark_retrieval.images import SUFFIXES, is_picture

USED = "used"
SAME_BYTES = "same bytes"
UNDECODABLE = "cannot be decoded"
NOT_A_PICTURE = "not a picture"
MISSING = "missing"
LINKED_TWICE = "linked twice"
NOT_LISTED = "not listed"
HIDDEN = "hidden"
UNREADABLE = "cannot be read"
TABLE_FILE = "table"

OUTCOMES = (
    *(USED, SAME_BYTES, UNDECODABLE, UNREADABLE, MISSING, LINKED_TWICE),
    *(NOT_LISTED, NOT_A_PICTURE, HIDDEN, TABLE_FILE),
)
"""What may become of a file, in the order in which they are counted."""

SYSTEM_FOLDERS = frozenset({"@eaDir", "__MACOSX", "$RECYCLE.BIN", "System Volume Information", "lost+found"})
"""Folders that computers and storage devices make for themselves; they count as hidden."""

RAW_SUFFIXES = frozenset(
    {".3fr", ".arw", ".cr2", ".cr3", ".dng", ".erf", ".iiq", ".nef", ".orf", ".pef", ".raf", ".rw2", ".srw"}
)
"""Raw files of cameras: Pillow takes them for TIFF, but would show a stamp-sized preview."""


class MetFile(NamedTuple):
    """A file or folder that was met and is not used.

    Attributes:
        path: relative to the folder that was read, with `/`.
        what: one of `OUTCOMES`.
        other: path of the file that stands for it, or "".
        why: in words, or "".
    """

    path: str
    what: str
    other: str = ""
    why: str = ""


@dataclass
class Walk:
    """What lies below a folder.

    Attributes:
        root: the folder.
        photos: relative paths, with `/`, of what may be photos: by its name, or else by its first bytes.
        others: all other files, and folders that were not entered.
        keys: device and number on it of every regular file that was met, by relative path.
    """

    root: Path
    photos: list[str] = field(default_factory=list)
    others: list[MetFile] = field(default_factory=list)
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)
    _files: dict[tuple[int, int], str] = field(default_factory=dict)
    _folders: dict[tuple[int, int], str] = field(default_factory=dict)
    _links: list[str] = field(default_factory=list)

    def add(self, path: str, what: str, other: str = "", why: str = "") -> None:
        """Note a file that is not used."""
        self.others.append(MetFile(path, what, other, why))


def walk(root: Path) -> Walk:
    """Look at everything below a folder.

    Links are followed after all that is no link, each folder is entered once and each file is one photo, so
    that a link never takes the place of the file it leads to and circles end.

    Args:
        root: a folder that exists.
    """
    found = Walk(root)
    _enter(found, "")
    while found._links:
        path = found._links.pop(0)
        try:
            status = (root / path).stat()
        except OSError as error:
            target = os.readlink(root / path)  # noqa: PTH115 (may not be a valid path)
            words = "which does not exist" if isinstance(error, FileNotFoundError) else error.strerror
            found.add(path, MISSING, why=f"a link to {ascii(target)[1:-1]}, {words}")
            continue
        if not stat.S_ISDIR(status.st_mode):
            _look(found, path, status)
            continue
        known = found._folders.get((status.st_dev, status.st_ino))
        if known is None:
            _enter(found, path)
        else:
            found.add(path, LINKED_TWICE, known or ".", "a link to a folder that is read already")
    found.photos.sort()
    found.others.sort()
    return found


def _enter(found: Walk, path: str) -> None:
    """Look at what is in a folder, and in the folders in it; links are kept for later."""
    waiting = [path]
    while waiting:
        path = waiting.pop()
        try:
            status = (found.root / path).stat()
            with os.scandir(found.root / path) as scanned:
                entries = sorted(scanned, key=lambda entry: entry.name)
        except OSError as error:
            found.add(path, UNREADABLE, why=f"a folder: {error.strerror}")
            continue
        found._folders.setdefault((status.st_dev, status.st_ino), path)
        waiting += _sort(found, path, entries)[::-1]


def _sort(found: Walk, parent: str, entries: list[os.DirEntry[str]]) -> list[str]:
    """Look at the files of a folder, keep its links for later, and return its sub-folders."""
    folders = []
    for entry in entries:
        path = f"{parent}/{entry.name}" if parent else entry.name
        if not _can_be_written(entry.name):
            found.add(ascii(path)[1:-1], UNREADABLE, why="its name cannot be written down; rename it")
        elif entry.name.startswith(".") or entry.name in SYSTEM_FOLDERS:
            found.add(path, HIDDEN, why="a folder" if entry.is_dir(follow_symlinks=False) else "")
            if entry.is_file(follow_symlinks=False):
                _remember(found, path, entry.stat())
        elif entry.is_symlink():
            found._links.append(path)
        elif entry.is_dir():
            folders.append(path)
        else:
            _look(found, path, entry.stat())
    return folders


def _look(found: Walk, path: str, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        found.add(path, NOT_A_PICTURE, why="not a regular file")
        return
    known = _remember(found, path, status)
    suffix = PurePosixPath(path).suffix.lower()
    if known is not None:
        found.add(path, LINKED_TWICE, known, "a second name of one file")
    elif suffix in RAW_SUFFIXES:
        found.add(path, UNDECODABLE, why="a raw file of a camera; export it as JPEG")
    elif suffix in SUFFIXES or is_picture(found.root / path):
        found.photos.append(path)
    else:
        found.add(path, NOT_A_PICTURE)


def _remember(found: Walk, path: str, status: os.stat_result) -> str | None:
    """Note which file a path leads to, and return the path under which the file was met before."""
    key = status.st_dev, status.st_ino
    found.keys[path] = key
    known = found._files.setdefault(key, path)
    return None if known == path else known


def _can_be_written(name: str) -> bool:
    """Tell whether a name can stand in a table: it is text, and on one line."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return len(name.splitlines()) == 1 and all(letter >= " " and letter != "\x7f" for letter in name)

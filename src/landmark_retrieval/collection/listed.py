"""Which file each path of an image table means, however it is written."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from landmark_retrieval.collection.walk import Walk


@dataclass(frozen=True)
class ListedFile:
    """The file that a row of a table means.

    Attributes:
        path: relative to the folder, as it is called on disk; as written where there is no such file.
        exists: whether it is there.
        key: device and number on it, None where it does not exist.
        written: how the table calls it where that is not its name, else None.
        problem: a fault of the row, in words, or nothing.
    """

    path: str
    exists: bool
    key: tuple[int, int] | None = None
    written: str | None = None
    problem: tuple[str, ...] = ()


def match_listed_files(
    paths: Mapping[int, str], found: Walk, allow_outside: bool = False
) -> dict[int, ListedFile]:
    """Find the file of every row.

    A path is first taken as it is written; where that leads nowhere, a file is looked for whose name differs
    in the Unicode form (NFC or NFD, as macOS and others write), in spaces around it or in backslashes; then
    one that differs in case, too, if there is only one.

    Args:
        paths: path by line of the table, relative to the folder or absolute.
        found: what is in the folder.
        allow_outside: accept paths that leave the folder.

    Returns:
        The file of every line, in the order of `paths`.
    """
    names = _Names(found)
    listed = {}
    for line, path in paths.items():
        inside = _inside(path, found.root)
        if inside is None and not allow_outside:
            problem = (
                f"line {line}: path '{path}' leaves the folder of the table; move the image into it, or "
                "allow such paths with `allow_outside: true` at the photos' catalog entry"
            )
            listed[line] = ListedFile(path, False, problem=(problem,))
        else:
            listed[line] = _find(path if inside is None else inside, path, found, names)
    return listed


def _inside(path: str, folder: Path) -> str | None:
    """Return a path relative to the folder, without detours, or None when it leaves the folder."""
    if "//" not in path and "/." not in path and not path.startswith(("/", ".", "~")) and "\\" not in path:
        return path
    target = os.path.normpath(folder / path)
    for root in (str(folder), os.path.realpath(folder)):
        start = root.rstrip(os.sep) + os.sep
        if target.startswith(start):
            return PurePosixPath(target[len(start) :]).as_posix()
    return None


def _find(path: str, written: str, found: Walk, names: _Names) -> ListedFile:
    key = found.keys.get(path) or _key(found.root / path)
    if key is not None:
        return ListedFile(path, True, key)
    other = names.match(path)
    if other is None:
        return ListedFile(path, False)
    return ListedFile(other, True, found.keys[other], written)


def _key(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return (status.st_dev, status.st_ino) if path.is_file() else None


class _Names:
    """The files of a folder by simpler forms of their names, made when the first one is asked for."""

    def __init__(self, found: Walk) -> None:
        self._found = found

    @cached_property
    def _forms(self) -> list[tuple[Callable[[str], str], dict[str, list[str]]]]:
        forms: list[tuple[Callable[[str], str], dict[str, list[str]]]] = []
        for form in (_plain, lambda path: _plain(path).casefold()):
            by_form = defaultdict(list)
            for path in self._found.keys:
                by_form[form(path)].append(path)
            forms.append((form, by_form))
        return forms

    def match(self, path: str) -> str | None:
        """Return the only file whose name has the same simpler form, the stricter form first."""
        for form, by_form in self._forms:
            same = by_form.get(form(path), [])
            if same:
                return same[0] if len(same) == 1 else None
        return None


def _plain(path: str) -> str:
    parts = unicodedata.normalize("NFC", path).replace("\\", "/").split("/")
    return "/".join(part.strip() for part in parts)

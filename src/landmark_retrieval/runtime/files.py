"""Files that are written whole or not at all, and outlast a power cut."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from landmark_retrieval.errors import LandmarkRetrievalError

NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


class NoSpaceError(LandmarkRetrievalError):
    """The file system is full."""


@contextmanager
def whole_file(path: Path, lasting: bool = True) -> Iterator[Path]:
    """Give a temporary name beside a file, to be written; the file is replaced when that has succeeded.

    The new file is on the disk before it takes the place of the old one. Nothing is left of a file that could
    not be written.

    Args:
        path: of the file; its folder is made. What was there stays until the new file is complete.
        lasting: whether it must outlast a power cut; not for what is made again at little cost.

    Raises:
        NoSpaceError: the file system is full.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with space_in_words(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            if lasting:
                sync(temporary)
            temporary.replace(path)
            if lasting:
                sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def space_in_words(path: Path) -> Iterator[None]:
    """Say of a file system that is full which one it is, wherever below the block that was noticed."""
    try:
        yield
    except NoSpaceError:
        raise
    except Exception as error:  # Kedro's datasets wrap what the system says
        if not is_no_space(error):
            raise
        raise NoSpaceError(f"{path}: cannot be written, no space is left on its disk") from error


def is_no_space(error: BaseException | None) -> bool:
    """Tell whether an error, or one that it comes from, says that a file system is full."""
    while error is not None:
        if isinstance(error, NoSpaceError) or (isinstance(error, OSError) and error.errno in NO_SPACE):
            return True
        error = error.__cause__ or error.__context__
    return False


def sync(path: Path) -> None:
    """See a file, or the names in a folder, safely on the disk, where the system can do that."""
    try:
        opened = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno in NO_SPACE:
            raise
    finally:
        os.close(opened)

"""Files that commands write: checked before the work, and never put in the place of somebody else's."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.runtime.files import whole_file

force_option = click.option(
    "--force", is_flag=True, help="Replace the output even where something else has written it."
)
"""For commands with an output; what they read is never replaced."""


def check_output(
    path: str | Path,
    reads: Iterable[str | Path],
    is_own: Callable[[Path], bool],
    force: bool = False,
    default: str | None = None,
) -> Path:
    """Return the file that a command is to write, after making sure that it can and may be written.

    Links are followed. Devices and pipes are taken as they are; an empty file may always be replaced.

    Args:
        path: as given.
        reads: files that the command reads, none of which may be replaced.
        is_own: tells whether an earlier call of the command has written a file, which may then be replaced.
        force: replace also what somebody else has written.
        default: path that belongs to the command; its folder is made when it is written.

    Raises:
        LandmarkRetrievalError: its folder is missing or nothing can be written there, or the file must stay.
    """
    file = Path(path).resolve()
    if file.exists() and not file.is_file():
        return file
    own = path == default
    if not own and not file.parent.is_dir():
        raise LandmarkRetrievalError(f"{path}: there is no folder {file.parent}; make it, or choose another")
    problem = cannot_write(file)
    if problem:
        raise LandmarkRetrievalError(f"{path}: {problem}; choose another folder")
    if not file.exists():
        return file
    for other in reads:
        if Path(other).exists() and file.samefile(other):
            raise LandmarkRetrievalError(
                f"{path}: is also what is read ({other}); choose another name for the output"
            )
    if not force and not own and file.stat().st_size and not is_own(file):
        raise LandmarkRetrievalError(
            f"{path}: exists, and this command has not written it; choose another name, or replace it with "
            "--force"
        )
    return file


def cannot_write(file: Path) -> str:
    """Return why a file cannot be written, "" where it can; missing folders are no reason.

    Args:
        file: an absolute path.
    """
    folder = next(parent for parent in file.parents if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except OSError as error:
        return f"nothing can be written in {folder} ({error.strerror})"


@contextmanager
def writing(file: Path) -> Iterator[Path]:
    """Give a name to write to: a temporary one that replaces the file at the end, or a device itself.

    Args:
        file: from `check_output`.

    Raises:
        LandmarkRetrievalError: it cannot be written; what was there before is unchanged.
    """
    try:
        if file.exists() and not file.is_file():
            yield file
            return
        with whole_file(file) as temporary:
            yield temporary
    except OSError as error:
        raise LandmarkRetrievalError(f"{file}: cannot be written: {error.strerror or error}") from error

"""What every dataset of this package raises: one line that names the artifact's file and the remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kedro.io import DatasetError

from landmark_retrieval.errors import LandmarkRetrievalError


class ArtifactError(DatasetError, LandmarkRetrievalError):
    """A stored artifact is missing, damaged or of another kind; Kedro passes it on as it is."""


def damaged(file: str | Path, reason: object) -> ArtifactError:
    """Return the error for a file that cannot be read back.

    Args:
        file: the file that is off.
        reason: what was found, an exception or words.
    """
    return ArtifactError(f"{file}: damaged ({one_line(reason)}); delete it and run its pipeline again")


def one_line(reason: object) -> str:
    """Return an exception (or words) as a single line, never empty."""
    text = " ".join(str(reason).split())
    if isinstance(reason, BaseException) and not text:
        return type(reason).__name__
    return text


@contextmanager
def passed_on() -> Iterator[None]:
    """Let this project's own errors through Kedro's datasets without a second, longer message around them."""
    try:
        yield
    except DatasetError:
        raise
    except LandmarkRetrievalError as error:
        raise ArtifactError(str(error)) from error

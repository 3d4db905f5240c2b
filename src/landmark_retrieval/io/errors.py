"""What every dataset of this package raises: one line that names the artifact's file and the remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kedro.io import DatasetError

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.runtime import bundle
from landmark_retrieval.runtime.bundle import one_line

__all__ = ["ArtifactError", "damaged", "one_line", "passed_on"]


class ArtifactError(DatasetError, LandmarkRetrievalError):
    """A stored artifact is missing, damaged or of another kind; Kedro passes it on as it is."""


def damaged(file: str | Path, reason: object) -> ArtifactError:
    """Return the error for a file that cannot be read back.

    Args:
        file: the file that is off.
        reason: what was found, an exception or words.
    """
    return ArtifactError(str(bundle.damaged(file, reason)))


@contextmanager
def passed_on() -> Iterator[None]:
    """Let this project's own errors through Kedro's datasets without a second, longer message around them."""
    try:
        yield
    except DatasetError:
        raise
    except LandmarkRetrievalError as error:
        raise ArtifactError(str(error)) from error

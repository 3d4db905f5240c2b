"""How commands report errors that users are meant to read."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from landmark_retrieval.errors import LandmarkRetrievalError, ProblemsError


def in_words(error: Exception) -> str:
    """Return the message of an error on one line, or on one line for each fault where it names several."""
    lines = str(error).splitlines() if isinstance(error, ProblemsError) else [str(error)]
    return "\n".join(" ".join(line.split()) for line in lines)


def plain_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """Make a command print errors that users are meant to read as they are, and exit with status 1."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except LandmarkRetrievalError as error:
            raise click.ClickException(in_words(error)) from error

    return wrapped

"""How commands report errors that users are meant to read."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import click

from landmark_retrieval.errors import LandmarkRetrievalError


def plain_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """Make a command print errors that users are meant to read as one line, and exit with status 1."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except LandmarkRetrievalError as error:
            raise click.ClickException(" ".join(str(error).split())) from error

    return wrapped

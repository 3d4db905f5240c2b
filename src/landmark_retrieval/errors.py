"""The one exception that users are meant to read."""

from __future__ import annotations

from collections.abc import Sequence


class LandmarkRetrievalError(Exception):
    """Bad input or a missing artifact: one line that names the culprit and the remedy.

    The command line prints the message without a traceback and exits with a non-zero status.
    """


class OptionError(LandmarkRetrievalError, ValueError):
    """Options that do not exist or have senseless values."""


class ArrayError(LandmarkRetrievalError, ValueError):
    """Arrays that a caller gives and that do not fit each other, or are not what they should be."""


class ProblemsError(LandmarkRetrievalError):
    """Several faults of one input, all of them named at once, each on a line of its own.

    Args:
        source: the file or folder that they are of.
        problems: each says where the fault is and what mends it; at least one.
    """

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        if len(problems) == 1:
            message = (
                f"{source}, {problems[0]}" if problems[0].startswith("line") else f"{source}: {problems[0]}"
            )
        else:
            message = "\n".join([f"{source}: {len(problems)} faults", *(f"- {line}" for line in problems)])
        super().__init__(message)
        self.problems = tuple(problems)

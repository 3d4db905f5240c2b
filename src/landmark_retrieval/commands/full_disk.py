"""What is said when the disk is full: which file did not fit, what is free, and what could be freed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MIB = 2**20

SQLITE = "database or disk is full"
"""How SQLite, in which MLflow keeps its runs, says it."""


def is_full_disk(error: BaseException) -> bool:
    """Tell whether an error, or one that it comes from, says that a file system is full."""
    from landmark_retrieval.runtime.files import is_no_space

    return is_no_space(error) or SQLITE in str(error)


def full_disk(error: BaseException, env: str | None, params: Mapping[str, Any]) -> str:
    """Return one line on a full disk: the file, what is free, what `kedro store prune` would free.

    Args:
        error: that said so.
        env: configuration environment.
        params: runtime parameters.
    """
    file = _culprit(error)
    folder = next((place for place in (file, *file.parents) if place.is_dir()), Path.cwd())
    free = shutil.disk_usage(folder).free
    return (
        f"{_said(error) or f'{file}: no space is left on its disk'}. {free / MIB:.1f} MiB are free there; "
        f"{_prunable(env, params)}. All that was finished is kept: make room and run the same again"
    )


def _culprit(error: BaseException | None) -> Path:
    """Return the file that did not fit, the working folder where none is named."""
    while error is not None:
        if isinstance(error, OSError) and error.filename:
            return Path(str(error.filename))
        if found := re.match(r"(/[^:]+): ", str(error)):
            return Path(found[1])
        error = error.__cause__ or error.__context__
    return Path.cwd()


def _said(error: BaseException | None) -> str:
    """Return what this project's own error says, on one line."""
    from landmark_retrieval.runtime.files import NoSpaceError

    while error is not None:
        if isinstance(error, NoSpaceError):
            return " ".join(str(error).split())
        error = error.__cause__ or error.__context__
    return ""


def _prunable(env: str | None, params: Mapping[str, Any]) -> str:
    from landmark_retrieval.commands.store import DATA, open_store
    from landmark_retrieval.runtime.earlier_shards import earlier_shards
    from landmark_retrieval.runtime.store_contents import contents, prune

    try:
        store = open_store(env, dict(params))
        size = sum(one.size for one in prune(store, None, None, None, True)) + sum(
            earlier_shards(DATA).values()
        )
        kinds = sum(one.size for one in prune(store, 1, None, None, True))
        whole = sum(one.size for one in contents(store))
    except Exception:  # nothing more can be said on a disk on which nothing can be written
        return "`kedro store size` says what could be freed"
    return (
        f"`kedro store prune` would free {size / MIB:.1f} MiB, with --keep-last 1 {kinds / MIB:.1f} of the "
        f"store's {whole / MIB:.1f} MiB"
    )

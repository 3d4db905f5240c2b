"""The name of a data set, by which its artifacts are kept apart from those of others."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def data_set_name(
    configured: str | None,
    image_root: str | None,
    data_root: str | None = None,
    distractors: bool = False,
    descriptors: Any = None,
) -> str:
    """Name the folder of a data set's artifacts (`${data_set_name:}` in configuration files).

    Args:
        configured: the environment's own name for its data set, used unless photos are given.
        image_root: folder of photos given on the command line, or None.
        data_root: folder of a public data set given on the command line, or None.
        distractors: whether its distractors are used.
        descriptors: file of descriptors given on the command line, or a group of options with `files`.

    Returns:
        `configured`, or the folder's name (for a public data set its own) with a digest of the folder's full
        path, so that two folders never mix; descriptors add their names and paths.
    """
    folder = image_root or data_root
    files: Any = descriptors.get("files") if isinstance(descriptors, Mapping) else descriptors
    own = [Path(file) for file in (files.split(os.pathsep) if isinstance(files, str) else files or ())]
    if folder is None and not own:
        return configured or "none"
    paths = [part.expanduser().resolve() for part in (*([Path(folder)] if folder else []), *own)]
    name = paths[0].name if image_root else f"{configured or 'none'}{'_1m' if distractors else ''}"
    names = "-".join([name, *(file.stem for file in own)])
    return f"{names}-{hashlib.sha256(os.pathsep.join(map(str, paths)).encode()).hexdigest()[:6]}"

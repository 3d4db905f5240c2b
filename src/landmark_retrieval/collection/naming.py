"""The name of a data set, by which its artifacts are kept apart from those of others."""

from __future__ import annotations

import hashlib
from pathlib import Path


def data_set_name(
    configured: str | None,
    image_root: str | None,
    data_root: str | None = None,
    distractors: bool = False,
) -> str:
    """Name the folder of a data set's artifacts (the OmegaConf resolver `data_set_name` in the catalog).

    Args:
        configured: the environment's own name for its data set, used unless photos are given.
        image_root: folder of photos given on the command line, or None.
        data_root: folder of a public data set given on the command line, or None.
        distractors: whether its distractors are used.

    Returns:
        `configured`, or the folder's name (for a public data set its own) with a digest of the folder's full
        path, so that two folders never mix.
    """
    folder = image_root or data_root
    if folder is None:
        return configured or "none"
    path = Path(folder).expanduser().resolve()
    name = path.name if image_root else f"{configured}{'_1m' if distractors else ''}"
    return f"{name}-{hashlib.sha256(str(path).encode()).hexdigest()[:6]}"

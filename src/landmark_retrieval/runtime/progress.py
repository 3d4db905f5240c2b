"""Bars for work that takes longer than a moment."""

from __future__ import annotations

from tqdm import tqdm

PROGRESS_DELAY = 3.0
"""Seconds after which the bar of a step appears that is often done by then."""


def image_progress(images: int, description: str, shown: bool = True) -> tqdm[None]:
    """Return a bar that counts the images of one shard, below the bar of all shards."""
    return tqdm(
        total=images,
        desc=description,
        unit="image",
        disable=not shown,
        delay=PROGRESS_DELAY,
        position=1,
        leave=False,
    )

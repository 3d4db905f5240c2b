"""Images that an extraction could not read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from landmark_retrieval.runtime.sharding import ShardStore


@dataclass(frozen=True)
class SkippedImage:
    """A table row without a descriptor, and why."""

    row: int
    reason: str


def skipped_images(store: ShardStore) -> list[SkippedImage]:
    """Return the unreadable images of an extraction, in table order; only the reasons are read.

    Args:
        store: its shards have `rows` and `reasons`.
    """
    skipped = []
    for name in store.manifest()["shards"]:
        with store.open(name) as shard:
            reasons = shard.rows("reasons")
            if (reasons != "").any():
                rows = shard.rows("rows")
                skipped += [
                    SkippedImage(int(rows[at]), str(reasons[at])) for at in np.flatnonzero(reasons != "")
                ]
    return skipped

"""What the photos of a table hold, as digests: work on a photo is done again when its bytes have changed.

A copied, restored or touched file keeps its digest, so that nothing is computed again for it. Files are read
only where their size or time of change differs from when they were read last.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from landmark_retrieval.configuration import digest
from landmark_retrieval.images import content_digest, file_state
from landmark_retrieval.runtime.sharding import ExecutorConfig, ShardPlan, ShardStore, ShardTask

SHARD_SIZE = 4096
"""Photos of a shard: a changed file makes so many be read again."""

THREADS = 8
"""Files read at a time by one worker."""


def plan_image_contents(table: pd.DataFrame, executor: ExecutorConfig | None = None) -> ShardPlan:
    """Plan the digests of all files of a table.

    Shards hold `contents` `[b]`: ASCII bytes, 16 hexadecimal digits, "" for files that cannot be read.

    Args:
        table: image table with `image_id` and `path`.
        executor: where files are read; default: in this process.
    """
    ids, paths = (table[column].astype(str).tolist() for column in ("image_id", "path"))
    tasks = []
    for start in range(0, len(paths), SHARD_SIZE):
        stop = start + SHARD_SIZE
        part = paths[start:stop]
        fingerprint = digest(ids[start:stop], [file_state(path) for path in part])
        tasks.append(ShardTask(f"contents-{start:08d}", fingerprint, partial(contents_shard, part)))
    return ShardPlan("contents of photos", tasks, executor or ExecutorConfig(), {"images": len(paths)})


def contents_shard(paths: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Digest consecutive files; see `plan_image_contents` for the array."""
    with ThreadPoolExecutor(THREADS) as threads:
        return {"contents": np.array(list(threads.map(content_digest, paths)), dtype="S16")}


def read_image_contents(store: ShardStore) -> NDArray[np.str_]:
    """Return the digests of a finished plan by table row, str `[n]`."""
    return np.concatenate([np.zeros(0, "S16"), *(shard["contents"] for shard in store)]).astype(str)

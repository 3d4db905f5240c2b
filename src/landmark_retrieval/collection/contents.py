"""What the photos of a table hold, as digests: results are kept by them, whatever a photo is called.

A copied, restored or touched file keeps its digest, so that nothing is computed again for it. Files are read
only where their path, size or time of change differs from when they were read last.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from landmark_retrieval.configuration import digest
from landmark_retrieval.images import content_digest, file_state, image_sources, photo_keys
from landmark_retrieval.runtime.sharding import ExecutorConfig
from landmark_retrieval.runtime.store import PASSING, Request, Store

SHARD_SIZE = 4096
"""Photos of a shard of digests."""

THREADS = 8
"""Files read at a time by one worker."""

PARAMETERS = {"version": 1, "digest": "first 16 hexadecimal digits of SHA-256"}


@dataclass(frozen=True)
class ImageContents:
    """What results of the photos of a table are kept by.

    Attributes:
        digests: str `[n]` of `images.content_digest`, "" for files that cannot be read.
        keys: str `[n]` of `images.photo_keys`, "" for files that cannot be read.
    """

    digests: NDArray[np.str_]
    keys: NDArray[np.str_]


def digest_photos(table: pd.DataFrame, store: Store, executor: ExecutorConfig | None = None) -> ImageContents:
    """Digest the files of a table.

    Args:
        table: image table with `path` and optionally `crop` and `turn`.
        store: where digests are kept by path, size and time of change.
        executor: where files are read; default: in this process.
    """
    paths = table["path"].astype(str).tolist()
    states = [file_state(path) for path in paths]
    keys = [
        "" if state == (-1, -1) else digest(path, *state) for path, state in zip(paths, states, strict=True)
    ]

    def prepare(rows: NDArray[np.int64]) -> partial[dict[str, NDArray[Any]]]:
        return partial(read_digests, [paths[row] for row in rows])

    request = Request("digests of photos", "file", prepare, SHARD_SIZE, executor=executor or ExecutorConfig())
    found = store.namespace("contents", PARAMETERS).fill(np.array(keys, dtype=str), request)
    contents = found.places.read("contents").astype(str)
    if contents.ndim > 1:  # not a single file could be read
        contents = np.full(len(paths), "", dtype=str)
    return ImageContents(contents, photo_keys(image_sources(table), contents))


def read_digests(paths: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Digest files; those that cannot be read are not kept.

    Returns:
        `contents` `[b]`: ASCII bytes, 16 hexadecimal digits; `passing` bool `[b]`.
    """
    with ThreadPoolExecutor(THREADS) as threads:
        contents = np.array(list(threads.map(content_digest, paths)), dtype="S16")
    return {"contents": contents, PASSING: contents == b""}

"""Drawing of query, index and train images for photos that come without splits."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def draw_splits(
    image_ids: Sequence[str],
    landmarks: NDArray[np.int64],
    *,
    seed: int,
    query_fraction: float,
    train_fraction: float,
    min_images: int = 2,
) -> list[str]:
    """Draw a split for every image, landmark by landmark.

    An image's place in the draw depends on its id, its landmark's other ids and the seed alone, never on the
    order of the images. Every landmark with at least `min_images` images gets at least one query and one
    index image; images without a landmark, and landmarks with fewer images, go to the index.

    Args:
        image_ids: `[n]` unique ids.
        landmarks: `[n]` landmark of every image, negative for none.
        seed: another seed gives another draw.
        query_fraction: share of a landmark's images that become queries, at least one.
        train_fraction: share of a landmark's images that become train images: two or more, never more than
            its index images, else none.
        min_images: fewest images of a landmark that is divided, at least 2.

    Returns:
        `[n]` splits, `query`, `index` or `train`.
    """
    splits = np.full(len(image_ids), "index", dtype=object)
    lots = [_lot(seed, image_id) for image_id in image_ids]
    members: dict[int, list[int]] = {}
    for row, landmark in enumerate(landmarks.tolist()):
        if landmark >= 0:
            members.setdefault(landmark, []).append(row)
    for rows in members.values():
        if len(rows) < min_images:
            continue
        drawn = sorted(rows, key=lambda row: lots[row])
        queries, train = split_sizes(len(rows), query_fraction, train_fraction)
        splits[drawn[:queries]] = "query"
        splits[drawn[queries : queries + train]] = "train"
    return splits.tolist()


def split_sizes(images: int, query_fraction: float, train_fraction: float) -> tuple[int, int]:
    """Return how many of a landmark's images become queries and train images; the rest is its index.

    Args:
        images: number of images of the landmark, at least 2.
        query_fraction: share of queries.
        train_fraction: share of train images.

    Returns:
        Number of queries (at least 1, at most all but one) and of train images (0, or at least 2 and at most
        as many as the index keeps).
    """
    queries = min(max(1, _round(query_fraction * images)), images - 1)
    train = _round(train_fraction * images)
    if train:
        train = min(max(2, train), (images - queries) // 2)
    return queries, train if train >= 2 else 0


def _round(value: float) -> int:
    return math.floor(value + 0.5)


def _lot(seed: int, image_id: str) -> tuple[bytes, str]:
    return hashlib.sha256(f"{seed}\n{image_id}".encode()).digest(), image_id

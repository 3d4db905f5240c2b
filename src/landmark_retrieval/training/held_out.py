"""Images that are kept out of training, and how well they find each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from landmark_retrieval.evaluation.gld import DEPTH, average_precision
from landmark_retrieval.knn import KnnConfig, search
from landmark_retrieval.training.labels import rows_by_label

BLOCK = 4096
"""Images that are scored at once."""


def held_out_images(labels: NDArray[np.int64], share: float, seed: int) -> NDArray[np.bool_]:
    """Draw the images that are kept out of training: of each landmark a share, but two or more or none.

    Args:
        labels: int64 `[n]`.
        share: share of each landmark's images.
        seed: seed of the draw.

    Returns:
        bool `[n]`; every landmark keeps at least two images to train on.
    """
    random = np.random.default_rng(seed)
    held = np.zeros(len(labels), np.bool_)
    for members in rows_by_label(labels).values():
        count = min(round(share * len(members)), len(members) - 2)
        if count >= 2:
            held[random.permutation(members)[:count]] = True
    return held


def held_out_precision(descriptors: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Return the mAP@100 of finding, from each held-out image, the others of its landmark among them.

    Zero rows, of unreadable images, find nothing and are not found.

    Args:
        descriptors: float32 `[n, d]`, n two or more.
        labels: int64 `[n]`.
    """
    own = np.arange(len(labels), dtype=np.int64)
    config = KnnConfig(k=min(DEPTH, len(labels) - 1))
    found = search(descriptors, descriptors, config, own, "held-out images").neighbors
    members = rows_by_label(labels)
    precisions = []
    for start in range(0, len(labels), BLOCK):
        rows = own[start : start + BLOCK]
        groups = [members[label] for label in labels[rows].tolist()]
        relevant = [group[group != row] for row, group in zip(rows, groups, strict=True)]
        precisions.append(average_precision(found[rows], relevant))
    return float(np.mean(np.concatenate(precisions)))

"""Expansion of queries and of the database by nearest neighbours that nobody verified.

Chum et al., "Total Recall", ICCV 2007 (average); Radenović et al., "Fine-tuning CNN Image Retrieval with No
Human Annotation", TPAMI 2018 (alpha); Gordo et al., "End-to-end Learning of Deep Visual Representations for
Image Retrieval", IJCV 2017, section 5.3 (database side, weights that fall with the rank).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from landmark_retrieval.descriptors.matrix import normalize_rows

_BLOCK = 4096


def expand_queries(
    queries: NDArray[np.floating[Any]],
    index: NDArray[np.floating[Any]],
    neighbors: NDArray[np.int32],
    similarities: NDArray[np.float32],
    images: int,
    alpha: float,
) -> NDArray[np.float32]:
    """Add its nearest neighbours to every query, each weighed by its similarity to the power alpha.

    Args:
        queries: `[q, d]` of unit length.
        index: `[n, d]` of unit length.
        neighbors: int32 `[q, k]` index rows, nearest first, -1 padded.
        similarities: float32 `[q, k]`; negative ones count as 0.
        images: neighbours that are added.
        alpha: exponent; 0 is the plain average.

    Returns:
        Float32 `[q, d]` of unit length.
    """
    near = neighbors[:, :images]
    weights = np.maximum(similarities[:, :images], 0.0).astype(np.float64) ** alpha
    return _weighted_sum(queries, index, near, np.where(near >= 0, weights, 0.0))


def augment_database(
    index: NDArray[np.floating[Any]], neighbors: NDArray[np.int32], images: int
) -> NDArray[np.float32]:
    """Add its nearest neighbours to every index image, weighed (images - r) / images at rank r = 0, 1, ...

    Args:
        index: `[n, d]` of unit length.
        neighbors: int32 `[n, k]` index rows, nearest first, without the image itself, -1 padded.
        images: neighbours that are added; the image itself has weight 1.

    Returns:
        Float32 `[n, d]` of unit length.
    """
    near = neighbors[:, :images]
    weights = 1 - np.arange(near.shape[1]) / max(images, 1)
    return _weighted_sum(index, index, near, np.where(near >= 0, weights, 0.0))


def _weighted_sum(
    images: NDArray[Any], index: NDArray[Any], neighbors: NDArray[np.int32], weights: NDArray[np.float64]
) -> NDArray[np.float32]:
    result = np.empty(images.shape, np.float32)
    for start in range(0, len(images), _BLOCK):
        rows = slice(start, start + _BLOCK)
        total = np.asarray(images[rows], dtype=np.float64)
        for near, weight in zip(neighbors[rows].T, weights[rows].T, strict=True):
            total = total + weight[:, None] * index[np.maximum(near, 0)]
        result[rows] = normalize_rows(total)
    return result

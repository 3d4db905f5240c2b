"""Query expansion, for queries and (database side) for index images.

The image's descriptor is averaged with those of its most reliable neighbours and normalised again (Chum et
al. 2007, "Total Recall"; alpha weighting: Radenović et al. 2018; augmentation of the database by weights that
fall with the rank: Gordo et al. 2017). An image without a reliable neighbour keeps its descriptor bit for
bit. All neighbours contribute their descriptors as they were before expansion, so that the result does not
depend on any order.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from landmark_retrieval.configuration import Configuration
from landmark_retrieval.knn import NeighborLists
from landmark_retrieval.verification.rerank import rerank_order


class ExpansionConfig(Configuration):
    """How descriptors are expanded.

    Attributes:
        images: neighbours averaged with an image (the paper: 2); 0 expands nothing.
        selection: which ones: `verified` the most reliable of those that spatial verification accepts (the
            paper), `nearest` the first ones by similarity, whatever they show.
        method: weight of each neighbour, the image itself having 1: `average` 1 (the paper), `alpha` its
            similarity to the power `alpha` (next to nothing for whitened descriptors, whose similarities
            are small), `rank` from 1 for the first one in equal steps towards 0, `inlier_weighted` inliers /
            (inliers + min_inliers), that is one half at the floor and towards 1 above it.
        alpha: exponent of `alpha`.
        query_side: whether queries are expanded.
        database_side: whether index images are expanded.
    """

    images: int = Field(default=2, ge=0, le=10_000)
    selection: Literal["verified", "nearest"] = "verified"
    method: Literal["average", "alpha", "rank", "inlier_weighted"] = "average"
    alpha: float = Field(default=3.0, ge=0, le=100)
    query_side: bool = True
    database_side: bool = True

    @model_validator(mode="after")
    def _weights_exist(self) -> ExpansionConfig:
        if self.method == "inlier_weighted" and self.selection == "nearest":
            raise ValueError("method 'inlier_weighted' needs inliers: set selection to 'verified'")
        return self

    def by_nearest(self) -> ExpansionConfig:
        """Return the expansion by the nearest images, which is what there is without local features."""
        method = "average" if self.method == "inlier_weighted" else self.method
        return self.model_copy(update={"selection": "nearest", "method": method})


def expand(
    descriptors: NDArray[np.floating[Any]],
    index_descriptors: NDArray[np.floating[Any]],
    lists: NeighborLists,
    inliers: NDArray[np.int32],
    config: ExpansionConfig,
    min_inliers: int,
) -> NDArray[np.float32]:
    """Expand descriptors by their most reliable neighbours.

    Args:
        descriptors: `[n, d]` of the images to expand, L2-normalised.
        index_descriptors: `[m, d]` of the index, before expansion.
        lists: `[n, k]` index rows in descending similarity, -1 padded.
        inliers: `[n, c]`, c <= k, of the leading neighbours (`neighbor_inliers`); negative entries (the image
            itself, padding) are never used. The `nearest` selection may take neighbours beyond these.
        config: parameters.
        min_inliers: inliers from which a neighbour is reliable.

    Returns:
        float32 `[n, d]` with L2-normalised rows; rows without a reliable neighbour are unchanged.
    """
    result = np.array(descriptors, dtype=np.float32)
    neighbors, weights = lists.neighbors, lists.weights
    columns, counts, reliable = _select(neighbors, inliers, config, min_inliers)
    rows = np.flatnonzero(reliable.any(axis=1))
    chosen, used = columns[rows], reliable[rows]
    similarities = np.take_along_axis(weights[rows], chosen, axis=1)
    factors = np.where(used, _factors(similarities, counts[rows], config, max(min_inliers, 1)), 0.0)
    images = np.where(used, np.take_along_axis(neighbors[rows], chosen, axis=1), 0)
    total = result[rows].astype(np.float64)
    for column in range(chosen.shape[1]):
        total += factors[:, column, None] * index_descriptors[images[:, column]]
    norms = np.linalg.norm(total, axis=1, keepdims=True)
    result[rows] = np.where(norms > 0, total / np.maximum(norms, 1e-12), result[rows])
    return result


def _select(
    neighbors: NDArray[np.int32], inliers: NDArray[np.int32], config: ExpansionConfig, min_inliers: int
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.bool_]]:
    """Return the columns of the neighbours to take, their inliers, and which of them count."""
    if config.selection == "verified":
        columns = rerank_order(inliers, min_inliers)[:, : config.images]
        counts = np.take_along_axis(inliers, columns, axis=1)
        return columns, counts, counts >= max(min_inliers, 1)
    columns = _nearest(neighbors, inliers, config.images)
    return np.maximum(columns, 0), np.zeros(columns.shape, np.int32), columns >= 0


def _nearest(neighbors: NDArray[np.int32], inliers: NDArray[np.int32], images: int) -> NDArray[np.int64]:
    """Return the columns of the first `images` neighbours, -1 padded; an image is not its own neighbour."""
    usable = neighbors >= 0
    usable[:, : inliers.shape[1]] &= inliers >= 0
    order = np.argsort(~usable, axis=1, kind="stable")[:, :images]
    return np.where(np.take_along_axis(usable, order, axis=1), order, -1)


def _factors(
    similarities: NDArray[np.float32], inliers: NDArray[np.int32], config: ExpansionConfig, floor: int
) -> NDArray[np.float64]:
    if config.method == "alpha":
        return np.maximum(similarities, 0.0).astype(np.float64) ** config.alpha
    if config.method == "rank":
        steps = 1 - np.arange(config.images) / max(config.images, 1)
        return np.broadcast_to(steps[: inliers.shape[1]], inliers.shape)
    if config.method == "inlier_weighted":
        counts = np.maximum(inliers, 0).astype(np.float64)
        return counts / (counts + floor)
    return np.ones(inliers.shape)

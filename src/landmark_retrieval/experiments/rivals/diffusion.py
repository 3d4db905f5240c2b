"""Diffusion on the graph of mutual neighbours, solved by conjugate gradients.

Iscen, Tolias, Avrithis, Furon, Chum: "Efficient Diffusion on Region Manifolds: Recovering Small Objects with
Compact CNN Representations", CVPR 2017, sections 3 and 4 (global descriptors: one region an image). The query
is no vertex of the graph: it enters by its nearest neighbours (section 4.2), so the graph serves all queries.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array, diags_array, eye_array
from scipy.sparse.linalg import cg

from landmark_retrieval.experiments.rivals.config import DiffusionConfig

ITERATIONS = 20
"""Of conjugate gradients, at most (the paper: 20)."""

TOLERANCE = 1e-6
"""Of the residual, relative to the right-hand side, at which they end."""


def diffusion_graph(
    neighbors: NDArray[np.int32], similarities: NDArray[np.float32], config: DiffusionConfig
) -> csr_array[Any]:
    """Return the matrix `I - alpha S` that a diffusion solves (equations 1 to 6 of the paper).

    S is the affinity of mutual neighbours, `max(similarity, 0) ** gamma`, divided by the square roots of both
    degrees. An image without a mutual neighbour stays alone.

    Args:
        neighbors: int32 `[n, k]` index rows, nearest first, without the image itself, -1 padded.
        similarities: float32 `[n, k]`.
        config: parameters.

    Returns:
        Sparse float64 `[n, n]`, symmetric and positive definite.
    """
    near = neighbors[:, : config.neighbors]
    affinity = np.maximum(similarities[:, : config.neighbors], 0.0).astype(np.float64) ** config.gamma
    rows, columns = np.nonzero((near >= 0) & (affinity > 0))
    shape = (len(near), len(near))
    one_way = coo_array((affinity[rows, columns], (rows, near[rows, columns])), shape=shape).tocsr()
    mutual = one_way.minimum(one_way.T)  # zero where either does not know the other
    degree = np.asarray(mutual.sum(axis=1)).ravel()
    scale = diags_array(1 / np.sqrt(np.where(degree > 0, degree, 1.0)))
    return csr_array(eye_array(len(near)) - config.alpha * (scale @ mutual @ scale))


def rank_by_diffusion(
    graph: csr_array[Any],
    neighbors: NDArray[np.int32],
    similarities: NDArray[np.float32],
    config: DiffusionConfig,
    length: int,
) -> NDArray[np.int32]:
    """Rank the index by diffusion from each query's nearest neighbours.

    Args:
        graph: from `diffusion_graph`.
        neighbors: int32 `[q, k]` index rows nearest to each query, -1 padded.
        similarities: float32 `[q, k]`.
        config: parameters.
        length: results per query.

    Returns:
        int32 `[q, length]`: images that the diffusion reaches, by falling score, ties to the lower row; -1
        where it reaches no more.
    """
    ranking = np.full((len(neighbors), length), -1, np.int32)
    near = neighbors[:, : config.query_neighbors]
    affinity = np.maximum(similarities[:, : config.query_neighbors], 0.0).astype(np.float64) ** config.gamma
    for query, (rows, weights) in enumerate(zip(near, affinity, strict=True)):
        start = np.zeros(graph.shape[0])
        start[rows[rows >= 0]] = weights[rows >= 0]
        if not start.any():
            continue
        scores, _ = cg(graph, start, rtol=TOLERANCE, maxiter=ITERATIONS)
        order = np.argsort(-scores, kind="stable")[:length]
        reached = order[scores[order] > 0]
        ranking[query, : len(reached)] = reached
    return ranking

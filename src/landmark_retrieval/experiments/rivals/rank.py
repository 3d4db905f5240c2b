"""One entrance for all rivals: descriptors and their neighbours in, a ranking out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.evaluation.ranking import Ranking
from landmark_retrieval.experiments.rivals.config import (
    ChosenRival,
    DiffusionConfig,
    ExpansionRivalConfig,
    KReciprocalConfig,
)
from landmark_retrieval.experiments.rivals.diffusion import diffusion_graph, rank_by_diffusion
from landmark_retrieval.experiments.rivals.expansion import augment_database, expand_queries
from landmark_retrieval.experiments.rivals.k_reciprocal import rank_by_k_reciprocal
from landmark_retrieval.knn import KnnConfig, KnnGraph, search

if TYPE_CHECKING:
    from landmark_retrieval.retrieval.stages import Searched


def rank_by(
    config: ExpansionRivalConfig | DiffusionConfig | KReciprocalConfig,
    queries: NDArray[np.floating[Any]],
    index: NDArray[np.floating[Any]],
    graph: KnnGraph,
    knn: KnnConfig,
    length: int,
) -> NDArray[np.int32]:
    """Rank the index for every query by one rival.

    Args:
        config: which one, and its parameters.
        queries: `[q, d]` of unit length.
        index: `[n, d]` of unit length.
        graph: their exact nearest neighbours.
        knn: how expanded descriptors are searched.
        length: results per query.

    Returns:
        int32 `[q, length]` index rows, best first, -1 padded.

    Raises:
        LandmarkRetrievalError: the graph has fewer neighbours than the rival asks for.
    """
    _check_neighbors(config, graph, len(index))
    if isinstance(config, DiffusionConfig):
        matrix = diffusion_graph(graph.index.neighbors, graph.index.weights, config)
        return rank_by_diffusion(matrix, graph.queries.neighbors, graph.queries.weights, config, length)
    if isinstance(config, KReciprocalConfig):
        return rank_by_k_reciprocal(
            queries,
            index,
            graph.queries.neighbors,
            graph.index.neighbors,
            graph.index.weights,
            config,
            length,
        )
    if config.database_images:
        index = augment_database(index, graph.index.neighbors, config.database_images)
        graph = KnnGraph(search(queries, index, knn), graph.index)
    if config.query_images:
        queries = expand_queries(
            queries, index, graph.queries.neighbors, graph.queries.weights, config.query_images, config.alpha
        )
    found = search(queries, index, knn).neighbors[:, :length]
    return np.pad(found, ((0, 0), (0, length - found.shape[1])), constant_values=-1)


def rank_searched(found: Searched, options: Mapping[str, Any]) -> Ranking:
    """Rank by a rival what a variant ranks.

    Args:
        found: the queries and the index, with the neighbours of both.
        options: kind of the rival and its parameters (`config.RivalConfig`).

    Returns:
        As many results per query as a traversal gives (`egt.p`).
    """
    assert found.index_neighbors is not None
    config = ChosenRival.model_validate({"rival": options}).rival
    length = found.config.egt.p
    graph, knn = KnnGraph(found.neighbors, found.index_neighbors), KnnConfig(k=length + 1)
    rows = rank_by(config, found.queries, found.index, graph, knn, length + 1)
    return Ranking(rows[:, :length] if found.own is None else without_own(rows, found.own))


def without_own(ranking: NDArray[np.int32], own: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return rankings one shorter, each without the row that must not be found.

    Args:
        ranking: int32 `[q, k]` index rows.
        own: int64 `[q]` the row, -1 for none.
    """
    itself = (ranking == own[:, None]) & (own >= 0)[:, None]
    places = np.where(itself.any(axis=1), itself.argmax(axis=1), ranking.shape[1] - 1)
    keep = np.ones(ranking.shape, np.bool_)
    keep[np.arange(len(ranking)), places] = False
    return ranking[keep].reshape(len(ranking), -1)


def _check_neighbors(config: Any, graph: KnnGraph, index: int) -> None:
    wanted = {
        "expansion": max(getattr(config, "query_images", 0), getattr(config, "database_images", 0)),
        "diffusion": max(getattr(config, "neighbors", 0), getattr(config, "query_neighbors", 0)),
        "k_reciprocal": getattr(config, "k1", 0),
    }[config.kind]
    held = graph.index.neighbors.shape[1]
    if min(wanted, index - 1) > held:
        raise LandmarkRetrievalError(
            f"{config.kind} asks for {wanted} neighbours of each image, the graph has {held}: raise knn.k"
        )

"""Rivals against slow references that follow the papers' equations word for word, on dense matrices."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from landmark_retrieval.descriptors.matrix import normalize_rows
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.experiments.rivals import (
    DiffusionConfig,
    ExpansionRivalConfig,
    KReciprocalConfig,
    rank_by,
)
from landmark_retrieval.knn import KnnConfig, KnnGraph, build_knn_graph

LENGTH = 40
KNN = KnnConfig(k=15)


def places(seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return 5 queries and 60 index images around 8 random places, unit vectors of 6 numbers."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(8, 6))
    images = centres[random.integers(0, 8, 65)] + 0.5 * random.normal(size=(65, 6))
    rows = normalize_rows(images)
    return rows[:5], rows[5:]


@pytest.fixture(params=[0, 1, 2])
def data(request: pytest.FixtureRequest) -> tuple[NDArray[np.float32], NDArray[np.float32], KnnGraph]:
    """Queries, index and their exact graph."""
    queries, index = places(request.param)
    return queries, index, build_knn_graph(queries, index, KNN)


def nearest(similarity: NDArray[np.floating], k: int) -> list[int]:
    """Return the k most similar rows, itself never among them (its similarity is -inf)."""
    return np.argsort(-similarity, kind="stable")[:k].tolist()


def unit(vector: NDArray[np.floating]) -> NDArray[np.floating]:
    return vector / np.linalg.norm(vector)


def slow_expansion(
    queries: NDArray[np.float32], index: NDArray[np.float32], config: ExpansionRivalConfig
) -> list[list[int]]:
    q, x = queries.astype(float), index.astype(float)
    if config.database_images:
        own = x @ x.T
        np.fill_diagonal(own, -np.inf)
        n = config.database_images
        x = np.stack(
            [
                unit(x[i] + sum((n - r) / n * x[j] for r, j in enumerate(nearest(own[i], n))))
                for i in range(len(x))
            ]
        )
    ranking = []
    for query in q:
        near = nearest(x @ query, config.query_images)
        ranking.append(
            nearest(x @ unit(query + sum(max(x[j] @ query, 0) ** config.alpha * x[j] for j in near)), 15)
        )
    return ranking


@pytest.mark.parametrize(
    "config",
    [
        ExpansionRivalConfig(query_images=4, alpha=0),
        ExpansionRivalConfig(query_images=4, alpha=3),
        ExpansionRivalConfig(query_images=1, alpha=0, database_images=5),
        ExpansionRivalConfig(query_images=3, alpha=3, database_images=5),
    ],
)
def test_expansion(
    data: tuple[NDArray[np.float32], NDArray[np.float32], KnnGraph], config: ExpansionRivalConfig
) -> None:
    """Average, alpha, database side, both."""
    queries, index, graph = data
    found = rank_by(config, queries, index, graph, KNN, LENGTH)
    assert found[:, :15].tolist() == slow_expansion(queries, index, config)
    assert (found[:, 15:] == -1).all()


def test_diffusion(
    data: tuple[NDArray[np.float32], NDArray[np.float32], KnnGraph], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Conjugate gradients that run to the end give what the inverse matrix gives."""
    queries, index, graph = data
    monkeypatch.setattr("landmark_retrieval.experiments.rivals.diffusion.ITERATIONS", 500)
    monkeypatch.setattr("landmark_retrieval.experiments.rivals.diffusion.TOLERANCE", 1e-12)
    config = DiffusionConfig(neighbors=8, query_neighbors=4)
    n, x = len(index), index.astype(float)
    similarity = x @ x.T
    np.fill_diagonal(similarity, -np.inf)
    lists = [nearest(row, config.neighbors) for row in similarity]
    affinity = np.zeros((n, n))
    for i in range(n):
        for j in lists[i]:
            if i in lists[j]:
                affinity[i, j] = max(similarity[i, j], 0) ** config.gamma
    scale = np.diag([1 / np.sqrt(row.sum()) if row.sum() else 0 for row in affinity])
    inverse = np.linalg.inv(np.eye(n) - config.alpha * scale @ affinity @ scale)
    found = rank_by(config, queries, index, graph, KNN, LENGTH)
    for query, results in zip(queries.astype(float), found, strict=True):
        start = np.zeros(n)
        for j in nearest(x @ query, config.query_neighbors):
            start[j] = max(x[j] @ query, 0) ** config.gamma
        scores = inverse @ start
        kept = results[results >= 0]
        assert len(kept) == min(LENGTH, int((scores > 1e-9).sum()))
        np.testing.assert_allclose(scores[kept], np.sort(scores)[::-1][: len(kept)], rtol=1e-6)


def test_diffusion_from_nowhere_reaches_nothing() -> None:
    """A query without a similar image has an empty ranking, not an arbitrary one."""
    index = normalize_rows(np.abs(np.random.default_rng(0).normal(size=(20, 4))))
    graph = build_knn_graph(-index[:1], index, KNN)
    config = DiffusionConfig(neighbors=5, query_neighbors=5)
    assert (rank_by(config, -index[:1], index, graph, KNN, 5) == -1).all()


def slow_k_reciprocal(
    query: NDArray[np.floating], index: NDArray[np.float32], config: KReciprocalConfig
) -> NDArray[np.floating]:
    """Return the final distance of a query to every index image."""
    x, n = index.astype(float), len(index)
    similarity = x @ x.T
    np.fill_diagonal(similarity, np.inf)  # an image is its own nearest
    half = config.k1 // 2

    def reciprocal(i: int, k: int) -> set[int]:
        return {j for j in nearest(similarity[i], k + 1) if i in nearest(similarity[j], k + 1)}

    def expanded(members: set[int]) -> set[int]:
        result = set(members)
        for j in members:
            other = reciprocal(j, half)
            if len(other & members) >= 2 / 3 * len(other):
                result |= other
        return result

    def encoded(members: set[int], image: NDArray[np.floating]) -> NDArray[np.floating]:
        weights = np.array([np.exp(-np.sum((x[j] - image) ** 2)) if j in members else 0 for j in range(n)])
        return weights / weights.sum() if members else weights

    plain = [encoded(expanded(reciprocal(i, config.k1)), x[i]) for i in range(n)]
    averaged = [np.mean([plain[j] for j in nearest(similarity[i], config.k2)], axis=0) for i in range(n)]
    of_query = x @ query
    near = nearest(of_query, config.k1)
    # Image j would have the query among its k1 nearest when fewer than k1 others are nearer to it.
    mine = {j for j in near if sum(similarity[j, i] >= of_query[j] for i in range(n) if i != j) < config.k1}
    encoding = np.mean([encoded(expanded(mine), query), *(plain[j] for j in near[: config.k2 - 1])], axis=0)
    distance = np.sum((x - query) ** 2, axis=1)
    jaccard = np.array([1 - np.minimum(encoding, v).sum() / np.maximum(encoding, v).sum() for v in averaged])
    return (1 - config.weight) * jaccard + config.weight * distance / distance.max()


def test_k_reciprocal(data: tuple[NDArray[np.float32], NDArray[np.float32], KnnGraph]) -> None:
    """The ranking is that of the distance as the paper's equations give it."""
    queries, index, graph = data
    config = KReciprocalConfig(k1=9, k2=4)
    found = rank_by(config, queries, index, graph, KNN, LENGTH)
    for query, results in zip(queries.astype(float), found, strict=True):
        distance = slow_k_reciprocal(query, index, config)
        np.testing.assert_allclose(distance[results], np.sort(distance)[:LENGTH], atol=1e-5)
        assert len(set(results.tolist())) == LENGTH


@pytest.mark.parametrize(
    "config",
    [
        ExpansionRivalConfig(query_images=16),
        ExpansionRivalConfig(database_images=20),
        DiffusionConfig(),
        KReciprocalConfig(),
    ],
)
def test_a_graph_with_too_few_neighbours_is_refused(
    data: tuple[NDArray[np.float32], NDArray[np.float32], KnnGraph],
    config: ExpansionRivalConfig | DiffusionConfig | KReciprocalConfig,
) -> None:
    """Rather than that a rival quietly works with fewer than it is configured for."""
    queries, index, graph = data
    with pytest.raises(LandmarkRetrievalError, match=r"asks for \d+ neighbours.*raise knn\.k"):
        rank_by(config, queries, index, graph, KNN, LENGTH)

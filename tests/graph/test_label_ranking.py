"""The ranking behind the trusted photos, against a plain loop over all photos."""

from __future__ import annotations

import numpy as np
import pytest

from landmark_retrieval.graph.egt import EgtConfig
from landmark_retrieval.graph.label_evidence import LabelModel, LabelPosterior
from landmark_retrieval.graph.label_ranking import rank_by_labels
from landmark_retrieval.graph.trusted import rank_trusted, verified_graphs
from landmark_retrieval.knn import NeighborLists

QUERIES, INDEX = 3, 12
MODEL = LabelModel(
    landmarks=8, photos=40, which=15, offset=-5, whether=10, similarity=9, same_share=0.01, usual=0.6
)


def photos(count, labels, seed):
    rng = np.random.default_rng(seed)
    probabilities = -np.sort(-rng.dirichlet(np.ones(labels + 1) * 0.5, count)[:, :labels], axis=1)
    names = np.stack([rng.permutation(labels) for _ in range(count)])
    return LabelPosterior(
        names, probabilities.astype(np.float32), (1 - probabilities.sum(axis=1)).astype(np.float32)
    )


def setting(seed, k):
    rng = np.random.default_rng(seed)
    descriptors = [rng.normal(size=(n, 6)).astype(np.float32) for n in (QUERIES, INDEX)]
    descriptors = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in descriptors]
    similarity = descriptors[0] @ descriptors[1].T
    rows = np.argsort(-similarity, axis=1)[:, :k].astype(np.int32)
    lists = NeighborLists(rows, np.take_along_axis(similarity, rows, axis=1))
    a, b = np.array([0, 0, 3, 5]), np.array([4, 7, 5, 9])
    graphs = verified_graphs(a, b, np.float32([0.95, 0.99, 0.5, 0.99]), QUERIES, INDEX, 0.9)
    trusted = rank_trusted(*graphs, lists, *descriptors, EgtConfig(p=INDEX, threads=1))
    return trusted, lists, rng.uniform(0.2, 0.9, QUERIES).astype(np.float32), descriptors, similarity


def odds_of(q, x, queries, index, own, similarity):
    """Return the log odds of one pair from the definition."""
    of_query = dict(zip(queries.labels[q].tolist(), queries.probabilities[q].tolist(), strict=True))
    of_photo = dict(zip(index.labels[x].tolist(), index.probabilities[x].tolist(), strict=True))
    p = sum(of_query[label] * of_photo[label] for label in of_query)
    p += MODEL.same_share * queries.none[q] * index.none[x]
    return np.log(p / (1 - p)) + MODEL.similarity * similarity[q, x] / max(own[q], MODEL.usual / 2)


@pytest.mark.parametrize("seed", range(5))
def test_equals_a_loop_over_all_photos(seed):
    trusted, lists, own, descriptors, similarity = setting(seed, k=INDEX)
    queries, index = photos(QUERIES, 3, seed), photos(INDEX, 3, seed + 100)
    found = rank_by_labels(trusted, lists, own, queries, index, MODEL, *descriptors, trust=0.6)
    for q in range(QUERIES):
        first = [x for x, kind in zip(trusted.ranking[q], trusted.kinds[q], strict=True) if kind == 3]
        rest = sorted(
            set(range(INDEX)) - set(first), key=lambda x: -odds_of(q, x, queries, index, own, similarity)
        )
        assert found.ranking[q].tolist() == first + rest
        for place, x in enumerate(rest, start=len(first)):
            label = queries.given(0.6)[q]
            agrees = label >= 0 and index.given(0.6)[x] == label
            assert found.kinds[q, place] == (2 if agrees else 1)
            assert found.scores[q, place] == (np.inf if agrees else pytest.approx(similarity[q, x], abs=1e-6))


def test_trusted_photos_keep_their_places_whatever_labels_say():
    trusted, lists, own, descriptors, _ = setting(1, k=INDEX)
    queries, index = photos(QUERIES, 3, 1), photos(INDEX, 3, 2)
    index.none[[1, 4]], index.probabilities[[1, 4]] = 1, 0
    found = rank_by_labels(trusted, lists, own, queries, index, MODEL, *descriptors, trust=0.6)
    kept = trusted.kinds[0] == 3
    assert kept.sum() == 2  # photos 1 and 4; the path over 0.5 is not trusted
    np.testing.assert_array_equal(found.ranking[0, kept], trusted.ranking[0, kept])


def test_photos_of_a_likely_label_are_found_beyond_the_neighbours():
    trusted, lists, own, descriptors, _ = setting(2, k=2)
    queries, index = photos(QUERIES, 1, 3), photos(INDEX, 1, 4)
    queries.probabilities[:], queries.none[:] = 0.95, 0.05
    found = rank_by_labels(trusted, lists, own, queries, index, MODEL, *descriptors, trust=0.9)
    assert (found.ranking[1] >= 0).sum() == INDEX
    unlabelled = LabelPosterior(*photos(QUERIES, 1, 3).__dict__.values())
    unlabelled.probabilities[:], unlabelled.none[:] = 0, 1
    found = rank_by_labels(trusted, lists, own, unlabelled, index, MODEL, *descriptors, trust=0.9)
    assert sorted(found.ranking[1][found.ranking[1] >= 0]) == sorted(lists.neighbors[1])


def test_without_labels_similarity_decides():
    trusted, lists, own, descriptors, _ = setting(4, k=INDEX)
    nobody = [
        LabelPosterior(np.zeros((n, 0), int), np.zeros((n, 0), np.float32), np.ones(n, np.float32))
        for n in (QUERIES, INDEX)
    ]
    found = rank_by_labels(trusted, lists, own, *nobody, MODEL, *descriptors, trust=0.9)
    np.testing.assert_array_equal(found.ranking, trusted.ranking)

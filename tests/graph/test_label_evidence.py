"""Label evidence against a slow reference and synthetic collections whose labels are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landmark_retrieval.graph import label_evidence as evidence
from landmark_retrieval.knn import NeighborLists


def nearest(similarity, k):
    rows = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    return NeighborLists(
        rows.astype(np.int32), np.take_along_axis(similarity, rows, axis=1).astype(np.float32)
    )


def slow_relative(similarity, k, labels, count, own, left_out):
    """Return the relative similarities of the first k neighbours in plain loops."""
    result = np.full((len(similarity), count), -np.inf)
    for i, row in enumerate(similarity):
        listed = np.argsort(-row, kind="stable")[:k]
        for label in range(count):
            mine = [row[t] for t in listed if labels[t] == label and t != left_out[i]][:3]
            size = sum(labels[t] == label and t != left_out[i] for t in range(len(labels)))
            if mine:
                mine += [row[listed[-1]]] * (min(size, 3) - len(mine))
                result[i, label] = np.mean(mine) / own[i]
    return result


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(1, 14))
def test_relative_similarities_equal_plain_loops(seed, k):
    rng = np.random.default_rng(seed)
    similarity = rng.normal(size=(6, 12)).astype(np.float32)
    labels = rng.integers(-1, 4, 12)
    own, left_out = rng.uniform(0.3, 1, 6).astype(np.float32), rng.integers(-1, 12, 6)
    found = evidence.relative_similarities(nearest(similarity, k), labels, 4, own, left_out)
    wanted = slow_relative(similarity, k, labels, 4, own, left_out)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


def test_own_similarity_is_that_of_the_three_nearest_there_are():
    weights = np.float32([[0.9, 0.6, 0.3, 0.2], [0.5, 0.1, -np.inf, -np.inf], [-np.inf] * 4])
    np.testing.assert_allclose(evidence.own_similarity(weights), [0.6, 0.3, 0.0], rtol=1e-6)


class World:
    """A synthetic collection: landmarks are directions, photos scatter about them, some are of none."""

    def __init__(self, labelled, unlabelled=4, photos=12, train=4, unrelated=60, noise=0.9, seed=0, d=64):
        rng = np.random.default_rng(seed)
        centres = rng.normal(size=(labelled + unlabelled, d))

        def around(count):
            truth = np.repeat(np.arange(labelled + unlabelled), count)
            return truth, centres[truth] + noise * rng.normal(size=(len(truth), d))

        truth, photos_of = around(photos)
        self.truth = np.r_[np.where(truth < labelled, truth, -1), np.full(unrelated, -1)]
        self.index = self.unit(np.r_[photos_of, rng.normal(size=(unrelated, d)) * (1 + noise)])
        self.labels, vectors = around(train)
        vectors, self.labels = vectors[self.labels < labelled], self.labels[self.labels < labelled]
        self.train = self.unit(vectors)

    @staticmethod
    def unit(x):
        return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)

    def infer(self, k=100):
        model = self.fit(k) or pytest.fail()
        return evidence.infer_labels(self.nearest, self.own, self.labels, model)

    def fit(self, k=100):
        among = self.index @ self.index.T
        np.fill_diagonal(among, -np.inf)
        self.own = evidence.own_similarity(nearest(among, 3).weights)
        rows = evidence.photos_for_fit(self.labels)
        of_train = self.train @ self.train.T
        apart = of_train.copy()
        np.fill_diagonal(apart, -np.inf)
        self.nearest = nearest(self.index @ self.train.T, k)
        return evidence.fit_labels(
            self.labels,
            nearest(apart[rows], min(k, len(self.train) - 1)),
            nearest(self.train[rows] @ self.index.T, 3),
            self.nearest,
            self.own,
            of_train[np.ix_(rows, rows)],
            rows,
            0.01,
        )


@pytest.mark.parametrize("seed", range(3))
def test_photos_of_labelled_landmarks_get_their_label_and_no_others_any(seed):
    world = World(8, seed=seed)
    posterior = world.infer()
    given_labels, known = posterior.given(0.9), world.truth >= 0
    # What was given with a probability of 0.9 is right at least as often.
    assert (given_labels == world.truth)[given_labels >= 0].mean() > 0.9
    assert (given_labels[~known] >= 0).mean() < 0.05
    assert (posterior.given(0.5)[known] == world.truth[known]).mean() > 0.8


def test_probabilities_are_those_of_a_distribution():
    world = World(6)
    posterior = world.infer()
    total = posterior.probabilities.sum(axis=1) + posterior.none
    assert (total <= 1 + 1e-5).all()
    assert total.min() > 0.7  # the likeliest labels hold nearly everything
    assert (np.diff(posterior.probabilities, axis=1) <= 0).all()


def test_agreement_orders_pairs_and_unlabelled_photos_keep_their_similarity():
    world = World(8)
    model = world.fit() or pytest.fail()
    posterior = evidence.infer_labels(world.nearest, world.own, world.labels, model)
    rows = np.arange(len(world.truth), dtype=np.int32)
    of_first = evidence.prior_log_odds(posterior, 0, posterior, rows, model)
    same = world.truth == world.truth[0]
    assert of_first[same].min() > np.median(of_first[~same])
    assert model.similarity > 0
    # A photo without a label tells others without one apart by next to nothing.
    unlabelled = np.flatnonzero(posterior.none > 0.99)
    odds = evidence.prior_log_odds(
        posterior, int(unlabelled[0]), posterior, unlabelled.astype(np.int32), model
    )
    assert np.ptp(odds) < 0.1


def test_too_few_landmarks_fit_nothing():
    assert World(evidence.LEAST_LANDMARKS - 1).fit() is None
    assert World(evidence.LEAST_LANDMARKS + 3, train=1).fit() is None  # one photo each cannot be left out
    assert World(evidence.LEAST_LANDMARKS).fit() is not None


def test_short_lists_of_train_photos_do():
    world = World(8)
    whole = world.infer()
    short = world.infer(k=12)
    both = (whole.given(0.9) >= 0) & (short.given(0.9) >= 0)
    np.testing.assert_array_equal(whole.given(0.9)[both], short.given(0.9)[both])
    assert both.sum() > 0.5 * (whole.given(0.9) >= 0).sum()


def test_a_photo_that_nothing_is_like_is_no_photo_of_a_label():
    world = World(8)
    model = world.fit() or pytest.fail()
    faint = NeighborLists(np.int32([[0, 1, 2]]), np.float32([[0.03, 0.03, 0.03]]))
    posterior = evidence.infer_labels(faint, np.float32([0.03]), world.labels, model)
    assert posterior.none[0] > 0.9

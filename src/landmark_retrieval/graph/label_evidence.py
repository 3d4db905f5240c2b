"""Labels as evidence in an open world: P(label | photo) and P(same landmark | two photos).

A photo's similarity to the three nearest train photos of a label is divided by its similarity to its own
three nearest index photos; such a relative similarity means the same in collections whose bare similarities
differ.

Two questions are kept apart. *Which* label, if any: a softmax of relative similarities. *Whether* any: a
logistic function of the highest one. Both are fitted on index photos that lie nearest to a train photo and
take its label, when that photo is left out (present), and when its whole landmark is left out (absent). Train
photos among each other would be the purer examples, but resemble each other more than index photos do.

Two photos then show the same landmark with the prior odds that their labels agree, or that both have none and
are of one place; what their similarity adds to these odds is fitted on pairs of train photos, with their
landmarks present and absent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from landmark_retrieval.knn.neighbors import NeighborLists

NEAREST = 3
"""Nearest photos whose mean similarity counts."""

LEAST_LANDMARKS = 5
"""Landmarks of two train photos or more below which nothing is fitted.

Leaving landmarks out shows as many examples of an absent one as there are landmarks: the chance that a new
one looks more like a labelled one than all of these is 1 / (landmarks + 1).
"""

KEPT = 5
"""Likeliest labels kept of a photo."""

MOST_PHOTOS = 500
"""Train photos that a fit looks at, at most."""

PRIOR_WHICH = 20.0
"""Standard deviation of the prior of the softmax's slope: log odds for one unit of relative similarity."""

PRIOR_WHETHER = 10.0
"""The same for the question whether, whose examples are landmarks and so are fewer than photos."""

SMALLEST = 1e-9
"""Probability that no evidence goes below."""

BLOCK = 1024
"""Photos weighed at a time."""


@dataclass(frozen=True)
class LabelModel:
    """What labels are worth in a collection.

    Attributes:
        landmarks: train landmarks that it was fitted on.
        photos: train photos that it was fitted on.
        which: slope of the softmax over relative similarities.
        offset: of the logit that a photo has any label.
        whether: slope of the same over the highest relative similarity.
        similarity: what one unit of relative similarity of two photos adds to the log odds of one landmark.
        same_share: probability that two photos without a label show the same place.
        usual: median similarity of index photos to their own three nearest.
    """

    landmarks: int
    photos: int
    which: float
    offset: float
    whether: float
    similarity: float
    same_share: float
    usual: float


@dataclass(frozen=True, eq=False)
class LabelPosterior:
    """P(label | photo) of some photos.

    Attributes:
        labels: int64 `[n, m]` likeliest labels, falling, -1 padded.
        probabilities: float32 `[n, m]`, 0 for padding.
        none: float32 `[n]` probability of no label at all.
    """

    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    none: NDArray[np.float32]

    def given(self, trust: float) -> NDArray[np.int64]:
        """Return int64 `[n]` the label of each photo, -1 where none has this probability."""
        first = self.labels[:, 0] if self.labels.shape[1] else np.full(len(self.none), -1)
        enough = self.probabilities[:, :1].max(axis=1, initial=0) >= trust
        return np.where(enough, first, -1)


@dataclass(frozen=True, eq=False)
class LabelEvidence:
    """What labels say of a collection.

    Attributes:
        asked: posteriors of the photos that are asked.
        index: posteriors of the index photos.
        model: how they were made; with no landmarks there were too few labels, and nobody has one.
    """

    asked: LabelPosterior
    index: LabelPosterior
    model: LabelModel

    @property
    def fitted(self) -> bool:
        """Whether there were enough labels."""
        return self.model.landmarks > 0


NO_MODEL = LabelModel(0, 0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def no_labels(n: int) -> LabelPosterior:
    """Return the posteriors of n photos of which labels say nothing."""
    return LabelPosterior(np.zeros((n, 0), np.int64), np.zeros((n, 0), np.float32), np.ones(n, np.float32))


def own_similarity(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean similarity of each photo to its three nearest, float32 `[n]`.

    Args:
        weights: `[n, k]` similarities to its nearest photos, falling, -inf padded.
    """
    nearest = weights[:, :NEAREST].astype(np.float32)
    there = np.isfinite(nearest)
    mean = np.where(there, nearest, 0).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    return np.asarray(mean, np.float32)


def relative_similarities(
    nearest: NeighborLists,
    labels: NDArray[np.int64],
    count: int,
    own: NDArray[np.float32],
    left_out: NDArray[np.int64] | None = None,
) -> NDArray[np.float32]:
    """Return each photo's similarity to each label's three nearest train photos over its own three nearest.

    Args:
        nearest: `[n, k]` train rows nearest to each photo.
        labels: int64 `[t]` number 0..count-1 of each train photo's label, -1 for none.
        count: number of labels.
        own: float32 `[n]` the divisor.
        left_out: int64 `[n]` train row that does not count for a photo, -1 for none.

    Returns:
        float32 `[n, count]`, -inf for a label that is not among the neighbours. Where a label has more photos
        than were found, the farthest neighbour's similarity stands for what is missing.
    """
    neighbors, weights = nearest.neighbors, nearest.weights
    n = len(neighbors)
    total, found = np.zeros((n, count), np.float32), np.zeros((n, count), np.int64)
    sizes = np.broadcast_to(np.bincount(labels[labels >= 0], minlength=count), (n, count)).copy()
    if left_out is not None:
        gone = np.flatnonzero(left_out >= 0)
        gone = gone[labels[left_out[gone]] >= 0]
        np.subtract.at(sizes, (gone, labels[left_out[gone]]), 1)
    farthest = np.full(n, np.inf, np.float32)
    for column in range(neighbors.shape[1]):
        row = neighbors[:, column]
        farthest = np.where(row >= 0, weights[:, column], farthest)
        label = np.where(row >= 0, labels[row], -1)
        if left_out is not None:
            label = np.where(row == left_out, -1, label)
        who = np.flatnonzero(label >= 0)
        who = who[found[who, label[who]] < NEAREST]
        total[who, label[who]] += weights[who, column]
        found[who, label[who]] += 1
    missing = np.where(found > 0, np.minimum(sizes, NEAREST) - found, 0)
    total += missing * np.where(np.isfinite(farthest), farthest, 0)[:, None]
    mean = np.where(found > 0, total / np.maximum(found + missing, 1), -np.inf)
    return np.asarray(mean / own[:, None], np.float32)


def divisor(own: NDArray[np.float32], usual: float) -> NDArray[np.float32]:
    """Return what similarities are divided by: the own one, at least half of what is usual.

    A photo that nothing is like would be as near to every label as to its own neighbours.
    """
    return np.maximum(own, max(usual / 2, 1e-6)).astype(np.float32)


def posterior(
    relative: NDArray[np.float32], model: LabelModel
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return P(label | photo) `[n, labels]` and P(none | photo) `[n]` of relative similarities."""
    scores = model.which * relative.astype(np.float64)
    top = scores.max(axis=1, keepdims=True, initial=-np.inf)
    shares = np.exp(scores - np.where(np.isfinite(top), top, 0))
    highest = relative.max(axis=1, initial=-np.inf).astype(np.float64)
    known = np.where(
        np.isfinite(highest), _logistic(model.offset + model.whether * np.maximum(highest, -1e3)), 0.0
    )
    total = shares.sum(axis=1, keepdims=True)
    return shares / np.where(total > 0, total, 1) * known[:, None], 1 - known


def fit_labels(
    labels: NDArray[np.int64],
    train: NeighborLists,
    echoes: NeighborLists,
    index: NeighborLists,
    index_own: NDArray[np.float32],
    similarities: NDArray[np.float32],
    rows: NDArray[np.int64],
    same_share: float,
) -> LabelModel | None:
    """Fit the model to the train split.

    Args:
        labels: int64 `[t]` number of each train photo's label, -1 for none.
        train: `[m, k]` train rows nearest to each of the photos `rows`, without itself.
        echoes: `[m, 3]` index rows nearest to each of them.
        index: `[n, k]` train rows nearest to each index photo.
        index_own: float32 `[n]` similarity of index photos to their own three nearest.
        similarities: float32 `[m, m]` of the photos `rows` among each other.
        rows: int64 `[m]` train rows of the photos that are looked at (`photos_for_fit`).
        same_share: probability that two photos of the collection show the same place.

    Returns:
        The model; None when fewer than `LEAST_LANDMARKS` landmarks are among the photos.
    """
    mine, count = labels[rows], int(labels.max(initial=-1)) + 1
    landmarks = np.unique(mine)
    if len(landmarks) < LEAST_LANDMARKS or len(index_own) == 0:
        return None
    usual = float(np.median(index_own))
    photo, column = np.nonzero(echoes.neighbors >= 0)
    echo = echoes.neighbors[photo, column]
    of_echo = NeighborLists(index.neighbors[echo], index.weights[echo])
    relative = relative_similarities(of_echo, labels, count, divisor(index_own[echo], usual), rows[photo])
    which, offset, whether = _fit_posterior(relative, mine[photo], len(rows))
    model = LabelModel(
        len(landmarks), len(rows), which, offset, whether, 0.0, float(np.clip(same_share, 1e-6, 0.5)), usual
    )
    own = divisor(own_similarity(echoes.weights), usual)
    present = relative_similarities(train, labels, count, own)
    absent = present.copy()
    absent[np.arange(len(rows)), mine] = -np.inf
    similarity = _fit_pairs(present, absent, mine, similarities, own_similarity(train.weights), model)
    return replace(model, similarity=similarity)


def photos_for_fit(labels: NDArray[np.int64], seed: int = 0) -> NDArray[np.int64]:
    """Return the train rows that a fit looks at: photos of labels with two or more, `MOST_PHOTOS` at most."""
    sizes = np.bincount(labels[labels >= 0], minlength=1)
    rows = np.flatnonzero((labels >= 0) & (sizes[labels] >= 2))
    if len(rows) > MOST_PHOTOS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MOST_PHOTOS, replace=False))
    return rows


def infer_labels(
    nearest: NeighborLists,
    own: NDArray[np.float32],
    labels: NDArray[np.int64],
    model: LabelModel,
) -> LabelPosterior:
    """Return P(label | photo) of photos by their nearest train photos.

    Args:
        nearest: `[n, k]` train rows nearest to each photo.
        own: float32 `[n]` similarity to its own three nearest index photos (`own_similarity`).
        labels: int64 `[t]` number of each train photo's label, -1 for none.
        model: of `fit_labels`.
    """
    n, count = len(own), int(labels.max(initial=-1)) + 1
    kept = min(KEPT, count)
    result = LabelPosterior(
        np.full((n, kept), -1, np.int64), np.zeros((n, kept), np.float32), np.ones(n, np.float32)
    )
    for start in range(0, n, BLOCK):
        part = slice(start, start + BLOCK)
        relative = relative_similarities(nearest[part], labels, count, divisor(own[part], model.usual))
        probabilities, none = posterior(relative, model)
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :kept]
        best = np.take_along_axis(probabilities, order, axis=1)
        result.labels[part] = np.where(best > 0, order, -1)
        result.probabilities[part], result.none[part] = best, none
    return result


def prior_log_odds(
    query: LabelPosterior, q: int, index: LabelPosterior, rows: NDArray[np.int32], model: LabelModel
) -> NDArray[np.float64]:
    """Return the log odds that a query and index photos are of one landmark, by their labels alone.

    They are when their labels agree, and with `same_share` when neither has one.

    Args:
        query: posteriors of the queries.
        q: row of the query.
        index: posteriors of the index photos.
        rows: int32 `[m]` index rows.
        model: of `fit_labels`.
    """
    agree = np.zeros(len(rows))
    for label, probability in zip(query.labels[q].tolist(), query.probabilities[q].tolist(), strict=True):
        if label >= 0:
            agree += probability * ((index.labels[rows] == label) * index.probabilities[rows]).sum(axis=1)
    return _log_odds(agree + model.same_share * float(query.none[q]) * index.none[rows])


def _fit_posterior(
    relative: NDArray[np.float32], truth: NDArray[np.int64], photos: int
) -> tuple[float, float, float]:
    """Return slope of the softmax, and offset and slope of the logit, as maxima a posteriori."""
    n = len(relative)
    finite = np.where(np.isfinite(relative), relative, -1e3).astype(np.float64)
    weight = photos / n

    def which_loss(slope: NDArray[np.float64]) -> float:
        scores = slope[0] * finite
        right = scores[np.arange(n), truth] - np.logaddexp.reduce(scores, axis=1)
        return float(-weight * right.sum() + 0.5 * (slope[0] / PRIOR_WHICH) ** 2)

    absent = finite.copy()
    absent[np.arange(n), truth] = -1e3
    highest = np.maximum(np.r_[finite.max(axis=1), absent.max(axis=1)], -1.0)
    sign = np.r_[np.ones(n), -np.ones(n)]
    each = 1 / np.bincount(truth)[truth]  # every landmark counts once, present and absent

    def whether_loss(line: NDArray[np.float64]) -> float:
        wrong = np.logaddexp(0, -sign * (line[0] + line[1] * highest))
        return float((np.r_[each, each] * wrong).sum() + 0.5 * (line[1] / PRIOR_WHETHER) ** 2)

    which = _minimum(which_loss, [5.0])
    offset, whether = _minimum(whether_loss, [-3.0, 5.0])
    return max(float(which[0]), 0.0), float(offset), max(float(whether), 0.0)


def _fit_pairs(
    present: NDArray[np.float32],
    absent: NDArray[np.float32],
    truth: NDArray[np.int64],
    similarities: NDArray[np.float32],
    own: NDArray[np.float32],
    model: LabelModel,
) -> float:
    """Return what relative similarity adds to the log odds of labels, by pairs of train photos."""
    others = ~np.eye(len(truth), dtype=bool)
    relative = (similarities / np.maximum(own, 1e-6)[:, None])[others].astype(np.float64)
    prior = []
    for evidence in (present, absent):
        labels, none = posterior(evidence, model)
        agree = labels @ labels.T + model.same_share * np.outer(none, none)
        prior.append(_log_odds(agree)[others])
    sign = np.where((truth[:, None] == truth[None])[others], 1.0, -1.0)

    def loss(line: NDArray[np.float64]) -> float:
        wrong = [np.logaddexp(0, -sign * (line[0] + line[1] * relative + odds)).mean() for odds in prior]
        return float(sum(wrong)) + 1e-4 * float(line[1] ** 2)

    return max(float(_minimum(loss, [0.0, 5.0])[1]), 0.0)


def _minimum(loss: Callable[[NDArray[np.float64]], float], start: list[float]) -> NDArray[np.float64]:
    from scipy.optimize import minimize  # a search, which fits nothing, does not load it

    return np.asarray(minimize(loss, start, method="BFGS").x)


def _logistic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(0.5 * (1 + np.tanh(x / 2)))


def _log_odds(p: NDArray[np.float64]) -> NDArray[np.float64]:
    p = np.clip(p, SMALLEST, 1 - SMALLEST)
    return np.asarray(np.log(p) - np.log1p(-p))

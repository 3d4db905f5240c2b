"""Which images make a batch: the same number of several landmarks, those that look alike together."""

from __future__ import annotations

from itertools import islice

import numpy as np
from numpy.typing import NDArray

from landmark_retrieval.training.labels import rows_by_label


def batches_per_epoch(labels: NDArray[np.int64], landmarks_per_batch: int, images_per_landmark: int) -> int:
    """Return how many batches show about as many images as there are; arguments as in `draw_batches`."""
    together = min(landmarks_per_batch, int(labels.max()) + 1)
    return max(1, round(len(labels) / (together * images_per_landmark)))


def draw_batches(
    labels: NDArray[np.int64],
    landmarks_per_batch: int,
    images_per_landmark: int,
    seed: tuple[int, ...],
    alike: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """Draw the batches of one epoch.

    Every landmark starts a batch's list as often as any other; the rest of the batch are other landmarks,
    at random or, with `alike`, those that look most like the first. A landmark with fewer images than are
    asked for repeats some.

    Args:
        labels: int64 `[n]`, 0 to l - 1, of the train images.
        landmarks_per_batch: landmarks in a batch, at most l.
        images_per_landmark: images of each.
        seed: seed of the epoch.
        alike: int64 `[l, m]` other landmarks, most alike first.

    Returns:
        int64 `[b, landmarks_per_batch * images_per_landmark]` rows of images; b so that about n images come.
    """
    random = np.random.default_rng(seed)
    count = int(labels.max()) + 1
    together = min(landmarks_per_batch, count)
    members = rows_by_label(labels)
    batches = []
    order = random.permutation(count)
    for number in range(batches_per_epoch(labels, landmarks_per_batch, images_per_landmark)):
        first = int(order[number % count])
        if alike is None:
            # In turn, so that every landmark comes equally often.
            chosen = [int(order[(number * together + place) % count]) for place in range(together)]
        else:
            chosen = [first, *(int(label) for label in alike[first, : together - 1])]
            others = (label for label in random.permutation(count).tolist() if label not in chosen)
            chosen += list(islice(others, together - len(chosen)))
        batches.append(
            np.concatenate([_draw(members[label], images_per_landmark, random) for label in chosen])
        )
    return np.stack(batches)


def most_similar_landmarks(
    descriptors: NDArray[np.float32], labels: NDArray[np.int64], most: int
) -> NDArray[np.int64]:
    """Return for each landmark the others that look most like it: those of its hardest negatives.

    Radenović et al. (section 4.2) take the most similar images of other landmarks as negatives, one of
    each landmark.

    Args:
        descriptors: float32 `[n, d]`, unit rows.
        labels: int64 `[n]`, 0 to l - 1.
        most: others wanted.

    Returns:
        int64 `[l, min(most, l - 1)]`, the one with the most similar pair of images first.
    """
    count = int(labels.max()) + 1
    members = rows_by_label(labels)
    alike = np.empty((count, min(most, count - 1)), np.int64)
    for label in range(count):
        # One landmark at a time: a table of all pairs of landmarks need not fit in memory.
        closest = np.full(count, -np.inf, np.float32)
        if label in members:
            best = (descriptors[members[label]] @ descriptors.T).max(axis=0)
            np.maximum.at(closest, labels, best)
        closest[label] = -np.inf
        alike[label] = np.argsort(-closest, kind="stable")[: alike.shape[1]]
    return alike


def _draw(members: NDArray[np.int64], count: int, random: np.random.Generator) -> NDArray[np.int64]:
    rounds = [random.permutation(members) for _ in range(-(-count // len(members)))]
    return np.concatenate(rounds)[:count]

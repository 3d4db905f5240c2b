"""Whether anything was found is judged by the best of all pairs that were tried."""

from __future__ import annotations

import numpy as np
import pytest

from landmark_retrieval.retrieval.presence import THRESHOLD, needed, presence
from landmark_retrieval.verification.calibration import InlierFit

FIT = InlierFit(pairs=1000, start=6, top=200, unrelated=0.8, rate=0.5)
NO_FIT = InlierFit(pairs=10, start=14, top=64, unrelated=float("nan"), rate=float("nan"))


@pytest.mark.parametrize("tried", [1, 20, 60])
def test_the_best_of_unrelated_pairs_is_rarely_found(tried: int) -> None:
    rng = np.random.default_rng(tried)
    best = 6 + (rng.geometric(1 - FIT.rate, (20_000, tried)) - 1).max(axis=1)
    found = np.array([presence(FIT, inliers, tried) for inliers in range(best.max() + 1)])[best]
    assert (found >= THRESHOLD).mean() <= 0.01
    # Among as many photos with a partner, drawn as the model has it, high probabilities are what they say;
    # low ones say less than they could, as more inliers never prove less.
    counts = np.arange(6, 201)
    share = np.log((counts + 0.5) / (counts - 0.5))
    right = rng.choice(counts, 20_000, p=share / share.sum())
    told = np.r_[found, [presence(FIT, inliers, tried) for inliers in right]]
    truth = np.r_[np.zeros(len(found)), np.ones(len(right))]
    for low in (0.5, 0.8):
        part = (told >= low) & (told < low + 0.2)
        if part.sum() > 300:
            assert truth[part].mean() == pytest.approx(told[part].mean(), abs=0.06)


def test_more_pairs_tried_ask_for_more_and_more_inliers_never_prove_less() -> None:
    assert needed(FIT, 1) < needed(FIT, 20) < needed(FIT, 200)
    values = [presence(FIT, inliers, 20) for inliers in range(0, 300)]
    assert values == sorted(values) and values[0] == 0 and values[-1] > 0.999
    assert presence(FIT, 50, 0) == 0


def test_without_a_fit_the_measured_floor_is_the_tail() -> None:
    assert 14 < needed(NO_FIT, 20) < 25
    assert presence(NO_FIT, 10, 20) < 0.5

"""Inliers against synthetic mixtures whose truth is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landmark_retrieval.verification.calibration import (
    SIDES,
    STEP_PROBABILITY,
    CalibrationConfig,
    InlierFit,
    best_places,
    calibrate,
    expected_calibration_error,
    fit_inliers,
    floors,
    from_plain,
    in_words,
    pair_probabilities,
    reliable_pairs,
    to_plain,
)

FLOOR = 12


def mixture(n, unrelated, rate, seed, start=6, top=500):
    """Return inliers of n synthetic pairs and which of them are related."""
    rng = np.random.default_rng(seed)
    related = rng.random(n) >= unrelated
    null = start + rng.geometric(1 - rate, n) - 1
    alternative = np.exp(rng.uniform(np.log(start), np.log(top), n)).astype(int)
    return np.where(related, alternative, null), related


@pytest.mark.parametrize("rate", [0.35, 0.5, 0.65])
@pytest.mark.parametrize("unrelated", [0.4, 0.8, 0.97])
def test_fit_finds_the_mixture_and_its_probabilities_are_calibrated(rate, unrelated):
    inliers, _ = mixture(4000, unrelated, rate, seed=1)
    fit = fit_inliers(inliers, FLOOR)
    assert fit.start == 6
    assert fit.rate == pytest.approx(rate, abs=0.05)
    assert fit.unrelated == pytest.approx(unrelated, abs=0.06)
    fresh, related = mixture(4000, unrelated, rate, seed=2)
    assert expected_calibration_error(fit.probabilities(fresh), related) < 0.04


def placed(n=4000, seed=1):
    """Return tried pairs of one query: related with a chance that falls with the place in a list."""
    rng = np.random.default_rng(seed)
    places = rng.choice([1, 2, 8, 40], n)
    shares = {1: 0.7, 2: 0.4, 8: 0.1, 40: 0.01}
    inliers, _ = mixture(n, 0.0, 0.5, seed)
    unrelated = 6 + rng.geometric(0.5, n) - 1
    related = rng.random(n) < np.vectorize(shares.get)(places)
    pairs = pd.DataFrame({"row_a": 0, "row_b": np.arange(1, n + 1)})
    return pairs.assign(inliers=np.where(related, inliers, unrelated), place_a=places, place_b=0), related


def test_the_place_in_a_list_is_prior_evidence():
    pairs, _ = placed()
    fit = calibrate(pairs, 1, FLOOR, CalibrationConfig())[SIDES[0]]
    assert fit.related == pytest.approx((0.7, 0.4, 0.1, 0.01), abs=0.05)
    assert from_plain(to_plain({"query_index": fit}))["query_index"] == fit
    fresh, related = placed(seed=2)
    proof = fit.probabilities_at(fresh["inliers"], best_places(fresh[["place_a", "place_b"]]))
    assert expected_calibration_error(proof, related) < 0.03
    at_first, far_down = (fit.probabilities_at([10], [place])[0] for place in (1, 40))
    assert far_down < fit.probabilities([10])[0] < at_first
    assert fit.probabilities_at([0], [1])[0] == 0


def test_pairs_count_from_the_floor_or_by_their_place():
    pairs, _ = placed()
    fits = calibrate(pairs, 1, FLOOR, CalibrationConfig())
    floor = fits[SIDES[0]].floor(0.5)
    few = pd.DataFrame({"row_a": [0] * 4 + [1], "row_b": 2, "inliers": [floor, floor - 1, floor - 1, 3, 3]})
    few = few.assign(place_a=[40, 1, 40, 1, 1], place_b=[0, 9, 0, 0, 0])
    assert reliable_pairs(few, 1, fits, 0.5)["inliers"].tolist() == [floor, floor - 1, 0, 0, 0]
    plain = few.drop(columns=["place_a", "place_b"])
    assert reliable_pairs(plain, 1, fits, 0.5)["inliers"].tolist() == [floor, 0, 0, 0, 0]
    by_hand = calibrate(pairs, 1, 3, CalibrationConfig(), by_hand=True)
    assert reliable_pairs(few, 1, by_hand, 0.5)["inliers"].tolist() == few["inliers"].tolist()


def test_floor_rises_with_the_tail_of_unrelated_pairs():
    found = [fit_inliers(mixture(4000, 0.8, rate, 3)[0], FLOOR).floor(0.9) for rate in (0.35, 0.5, 0.65)]
    assert found == sorted(set(found))
    # Where the densities of both meet at odds of nine to one, computed here from the truth.
    counts = np.arange(6, 100)
    null = 0.8 * 0.5 * 0.5 ** (counts - 6)
    related = 0.2 * np.log((counts + 0.5) / (counts - 0.5)) / np.log(500.5 / 5.5)
    truth = counts[related / (related + null) >= 0.9][0]
    assert abs(found[1] - truth) <= 1


def test_unrelated_pairs_alone_verify_next_to_nothing():
    inliers, _ = mixture(3000, 1.0, 0.6, seed=4)
    assert (fit_inliers(inliers, FLOOR).probabilities(inliers) >= 0.9).mean() < 0.002


def test_related_pairs_alone_keep_some_doubt_at_the_bulk():
    inliers, _ = mixture(3000, 0.0, 0.5, seed=5)
    fit = fit_inliers(inliers, FLOOR)
    assert fit.unrelated >= 0.1
    assert fit.probabilities(fit.start) < 0.9 <= fit.probabilities(100)


@given(st.integers(1, 11), st.floats(0.1, 0.999), st.floats(0.05, 0.95), st.integers(60, 2000))
def test_more_inliers_never_prove_less(start, unrelated, rate, top):
    p = InlierFit(500, start, top, unrelated, rate).probabilities(np.arange(top + 10))
    assert p.dtype == np.float32
    assert p[0] == 0
    assert ((p >= 0) & (p <= 1)).all()
    assert (np.diff(p) >= -1e-6).all()


def test_few_pairs_fall_back_on_the_floor_and_say_so():
    inliers, _ = mixture(99, 0.8, 0.5, seed=6)
    fit = fit_inliers(inliers, FLOOR)
    assert not fit.fitted
    assert fit.floor(0.9) == FLOOR
    np.testing.assert_array_equal(fit.probabilities([11, 12]), np.float32([0, STEP_PROBABILITY]))
    assert "99 were tried and inliers are not calibrated" in in_words(SIDES[0], fit, CalibrationConfig())


def pairs_of(query_inliers, index_inliers):
    rows = np.r_[np.zeros(len(query_inliers), int), np.full(len(index_inliers), 7)]
    inliers = np.r_[query_inliers, index_inliers]
    return pd.DataFrame({"row_a": rows, "row_b": rows + 1, "inliers": inliers})


def test_each_side_has_its_own_fit():
    pairs = pairs_of(mixture(2000, 0.8, 0.35, 7)[0], mixture(2000, 0.8, 0.65, 8)[0])
    fits = calibrate(pairs, 5, FLOOR, CalibrationConfig())
    assert floors(fits, 0.9)[0] < floors(fits, 0.9)[1]
    p = pair_probabilities(pairs, 5, fits)
    expected = np.r_[
        fits[SIDES[0]].probabilities(pairs["inliers"][:2000]),
        fits[SIDES[1]].probabilities(pairs["inliers"][2000:]),
    ]
    np.testing.assert_array_equal(p, expected)
    assert p.dtype == np.float32
    assert from_plain(to_plain(fits)) == fits


def test_a_floor_given_by_hand_wins():
    pairs = pairs_of(mixture(500, 0.8, 0.5, 9)[0], mixture(500, 0.8, 0.5, 10)[0])
    fits = calibrate(pairs, 5, 30, CalibrationConfig(), by_hand=True)
    p = pair_probabilities(pairs, 5, fits)
    np.testing.assert_array_equal(p > 0, pairs["inliers"] >= 30)
    assert str(from_plain(to_plain(fits))) == str(fits)
    assert str(calibrate(pairs, 5, 30, CalibrationConfig(enabled=False))) == str(fits)
    assert floors(fits, 0.5) == floors(fits, 0.9) == (30, 30)


def test_no_pairs_at_all():
    pairs = pairs_of([], [])
    fits = calibrate(pairs, 5, FLOOR, CalibrationConfig())
    assert pair_probabilities(pairs, 5, fits).shape == (0,)


def test_calibration_error_of_known_cases():
    assert expected_calibration_error([0.25] * 4, [True, False, False, False]) == 0
    assert expected_calibration_error([1.0, 1.0], [True, False]) == pytest.approx(0.5)
    # Errors of opposite sign in different bins do not cancel.
    assert expected_calibration_error([0.95, 0.05], [False, True]) == pytest.approx(0.95)
    assert np.isnan(expected_calibration_error([], []))

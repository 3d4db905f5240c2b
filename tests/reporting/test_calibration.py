"""What the report says of inliers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from landmark_retrieval.reporting.calibration import calibration_in_words, inliers_by_side, plot_calibration
from landmark_retrieval.verification.calibration import (
    SIDES,
    CalibrationConfig,
    calibrate,
    pair_probabilities,
)


@pytest.fixture
def tried():
    rng = np.random.default_rng(0)
    rows = np.array([(a, b) for a in range(20) for b in range(max(a + 1, 5), 20)])
    inliers = np.where(rng.random(len(rows)) < 0.8, 4 + rng.geometric(0.5, len(rows)), 80)
    pairs = pd.DataFrame({"row_a": rows[:, 0], "row_b": rows[:, 1], "inliers": inliers})
    fits = calibrate(pairs, 5, 12, CalibrationConfig(min_pairs=80))
    return pairs.assign(probability=pair_probabilities(pairs, 5, fits)), fits


def table(landmarks):
    return pd.DataFrame(
        {
            "image_id": [f"image{row}" for row in range(20)],
            "split": ["query"] * 5 + ["index"] * 15,
            "landmark_id": pd.array(landmarks, dtype="Int64"),
        }
    )


def test_sides_share_out_the_pairs(tried):
    pairs, _ = tried
    sides = inliers_by_side(pairs, 5)
    assert list(sides) == list(SIDES)
    assert len(sides[SIDES[0]]) == 5 * 15
    assert len(sides[SIDES[1]]) == 15 * 14 // 2


def test_sentences_tell_fits_and_errors(tried):
    pairs, fits = tried
    few, fitted, error = calibration_in_words(pairs, table([0] * 20), fits, CalibrationConfig(min_pairs=80))
    assert "75 were tried and inliers are not calibrated" in few
    assert "105 were tried" in fitted
    assert "Expected calibration error" in error


def test_without_landmarks_nothing_is_said_of_errors(tried):
    pairs, fits = tried
    sentences = calibration_in_words(pairs, table([None] * 20), fits, CalibrationConfig(min_pairs=80))
    assert len(sentences) == 2


def test_the_figure_has_a_panel_for_each_kind_of_pairs(tried):
    pairs, fits = tried
    figure = plot_calibration(inliers_by_side(pairs, 5), fits)
    titles = [axes.get_title() for axes in figure.axes]
    assert "query-index pairs" in titles
    assert "index-index pairs" in titles

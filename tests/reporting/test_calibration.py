"""What the report says of inliers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from landmark_retrieval.graph.label_evidence import NO_MODEL, LabelEvidence, no_labels
from landmark_retrieval.reporting.calibration import (
    CalibrationErrors,
    calibration_in_words,
    evidence_metrics,
    inliers_by_side,
    plot_calibration,
)
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


def test_errors_tell_apart_what_geometry_cannot_see():
    """Photos 0 to 2 are a view of landmark 1, photo 3 is another; photo 4 shows landmark 2, photo 5 none."""
    images = table([1, 1, 1, 1, 2] + [None] * 15)
    rows = [(0, 1), (1, 2), (0, 2), (0, 3), (0, 4), (5, 6)]
    p = [0.95, 0.95, 0.05, 0.05, 0.15, 0.5]
    pairs = pd.DataFrame(rows, columns=["row_a", "row_b"]).assign(probability=p)
    errors = CalibrationErrors.measure(pairs, images, 0.5)
    assert (errors.edges, errors.tried, errors.failed_same, errors.failed_linked) == (2, 5, 2, 1)
    assert errors.of_edges == pytest.approx(0.05)
    assert errors.of_different == pytest.approx(0.15)
    # Bins: two pairs at .95, all right; two at .05, both right or, by links, one; one at .15, wrong.
    assert errors.of_tried == pytest.approx((2 * 0.05 + 2 * 0.95 + 0.15) / 5)
    assert errors.of_tried_linked == pytest.approx((2 * 0.05 + 0.9 + 0.15) / 5)


def test_metrics_hold_the_fits_of_inliers_and_labels(tried):
    pairs, fits = tried
    config, nobody = CalibrationConfig(min_pairs=80), LabelEvidence(no_labels(1), no_labels(1), NO_MODEL)
    metrics = evidence_metrics(pairs, table([0] * 20), fits, config, nobody)
    assert metrics["verification.index_index.pairs"] == 105
    assert metrics["verification.index_index.null_rate"] == fits[SIDES[1]].rate
    assert metrics["verification.index_index.floor_expand"] == fits[SIDES[1]].floor(0.9)
    assert np.isnan(metrics["verification.query_index.null_rate"])  # too few pairs
    assert metrics["calibration_error.tried"] == 180
    assert metrics["label_evidence.landmarks"] == 0
    nothing = pairs[:0]
    assert evidence_metrics(nothing, table([0] * 20), {}, config) == {}

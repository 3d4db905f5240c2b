"""What inliers prove in a collection: their histogram, the unrelated pairs among them, and P(same place)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from landmark_retrieval.collection import NO_LANDMARK, SplitRows, landmark_of
from landmark_retrieval.verification.calibration import (
    SIDES,
    CalibrationConfig,
    InlierFit,
    expected_calibration_error,
    in_words,
)

MOST_INLIERS = 60
"""Inliers that the axis reaches; pairs with more are counted in its last bar."""


def inliers_by_side(pairs: pd.DataFrame, queries: int) -> dict[str, NDArray[np.int32]]:
    """Return the inliers of each kind of tried pairs that there are.

    Args:
        pairs: `row_a`, `inliers`.
        queries: number of queries; table rows below it are queries.
    """
    inliers, of_queries = pairs["inliers"].to_numpy(np.int32), pairs["row_a"].to_numpy() < queries
    sides = zip(SIDES, (of_queries, ~of_queries), strict=True)
    return {side: inliers[chosen] for side, chosen in sides if chosen.any() or side == SIDES[1]}


def calibration_in_words(
    pairs: pd.DataFrame, images: pd.DataFrame, fits: Mapping[str, InlierFit], config: CalibrationConfig
) -> list[str]:
    """Say what inliers prove, and, where landmarks are known, how far the probabilities are off.

    Args:
        pairs: `row_a`, `row_b`, `inliers`, `probability` of all tried pairs.
        images: image table.
        fits: of both kinds of pairs.
        config: parameters.
    """
    sides = inliers_by_side(pairs, SplitRows.from_table(images).query.stop)
    sentences = [in_words(side, fits[side], config) for side in sides]
    landmarks = landmark_of(images)
    a, b = landmarks[pairs["row_a"].to_numpy()], landmarks[pairs["row_b"].to_numpy()]
    probability, known = pairs["probability"].to_numpy(), (a != NO_LANDMARK) | (b != NO_LANDMARK)
    edges = known & (probability >= config.rerank)
    if edges.any():
        error, over_all = (
            expected_calibration_error(probability[chosen], a[chosen] == b[chosen])
            for chosen in (edges, known)
        )
        sentences.append(
            f"Expected calibration error (10 bins) of the {edges.sum()} verified pairs of which a landmark "
            f"is known: {error:.3f}; of all {known.sum()} tried ones {over_all:.3f}: there photos of one "
            "landmark that do not show the same part of it count as related, which no inliers can tell"
        )
    return sentences


def plot_calibration(inliers: Mapping[str, NDArray[np.int32]], fits: Mapping[str, InlierFit]) -> Figure:
    """Return one panel for each kind of pairs.

    Args:
        inliers: int32 `[m]` of the tried pairs of each kind.
        fits: of each kind.
    """
    figure = Figure(figsize=(9.6, 3.4), layout="constrained")
    counts = np.arange(1, MOST_INLIERS + 1)
    for axes, (side, found) in zip(
        figure.subplots(1, len(inliers), squeeze=False)[0], inliers.items(), strict=True
    ):
        fit = fits[side]
        shown = np.minimum(found[found > 0], MOST_INLIERS)
        axes.hist(shown, np.arange(0.5, MOST_INLIERS + 1), color="#56B4E9", label="tried pairs")
        if fit.fitted:
            many = (found >= fit.start).sum() * fit.unrelated
            above = counts[counts >= fit.start]
            null = many * (1 - fit.rate) * fit.rate ** (above - fit.start)
            axes.plot(above, null, color="#D55E00", label="unrelated (fitted)")
        axes.set_yscale("symlog", linthresh=1)
        axes.set(title=side.replace("_", "-") + " pairs", xlabel="inliers", ylabel="pairs", ylim=(0, None))
        right = axes.twinx()
        right.plot(counts, fit.probabilities(counts), color="#009E73", label="P(same place)")
        right.set(ylim=(0, 1.02), ylabel="P(same place)")
        handles = [*axes.get_legend_handles_labels()[0], *right.get_legend_handles_labels()[0]]
        axes.legend(handles=handles, loc="center right", fontsize="small")
    return figure

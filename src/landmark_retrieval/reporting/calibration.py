"""What inliers prove in a collection: their histogram, the unrelated pairs among them, and P(same place)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from landmark_retrieval.collection import NO_LANDMARK, SplitRows, landmark_of
from landmark_retrieval.graph.label_evidence import LabelEvidence
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


@dataclass(frozen=True)
class CalibrationErrors:
    """How far P(same place) is off, where landmarks tell: expected errors in 10 bins, NaN for none.

    P is of what geometry sees; a landmark is all that has one name. So tried pairs of one landmark that fail
    are told apart: some are linked by verified pairs of other photos, step by step; that the others belong
    together, no photo of the collection shows.

    Attributes:
        edges: pairs of P >= `verification.calibration.rerank` of which a landmark is known.
        of_edges: error of these, against one landmark.
        tried: pairs that were tried of which a landmark is known.
        of_tried: error of these, against one landmark.
        of_tried_linked: error of these, against one landmark *and* linked by verified pairs, their own among
            them.
        of_different: mean P of the pairs of different landmarks.
        failed_same: pairs below the floor that show one landmark.
        failed_linked: those of them that verified pairs of other photos link.
    """

    edges: int
    of_edges: float
    tried: int
    of_tried: float
    of_tried_linked: float
    of_different: float
    failed_same: int
    failed_linked: int

    @classmethod
    def measure(cls, pairs: pd.DataFrame, images: pd.DataFrame, floor: float) -> CalibrationErrors:
        """Compare the probabilities of tried pairs with landmarks.

        Args:
            pairs: `row_a`, `row_b`, `probability` of all tried pairs.
            images: image table.
            floor: probability from which a pair is verified.
        """
        row_a, row_b = (pairs[name].to_numpy(np.int64) for name in ("row_a", "row_b"))
        p, landmarks = pairs["probability"].to_numpy(np.float64), landmark_of(images)
        known = (landmarks[row_a] != NO_LANDMARK) | (landmarks[row_b] != NO_LANDMARK)
        same = known & (landmarks[row_a] == landmarks[row_b])
        verified = p >= floor
        links = csr_matrix(
            (np.ones(verified.sum(), np.int8), (row_a[verified], row_b[verified])), shape=(len(images),) * 2
        )
        _, component = connected_components(links, directed=False)
        linked = same & (component[row_a] == component[row_b])
        edges, different, failed = known & verified, known & ~same, same & ~verified
        return cls(
            int(edges.sum()),
            expected_calibration_error(p[edges], same[edges]),
            int(known.sum()),
            expected_calibration_error(p[known], same[known]),
            expected_calibration_error(p[known], linked[known]),
            float(p[different].mean()) if different.any() else float("nan"),
            int(failed.sum()),
            int((failed & linked).sum()),
        )

    def in_words(self) -> str:
        """Say it in two sentences."""
        return (
            f"Expected calibration error (10 bins) of the {self.edges} verified pairs of which a landmark is "
            f"known: {self.of_edges:.3f}; pairs of different landmarks have P = {self.of_different:.3f} in "
            f"the mean. Of all {self.tried} tried pairs it is {self.of_tried:.3f} against one landmark, "
            f"because {self.failed_same} pairs of one landmark fail (other photos link "
            f"{self.failed_linked} of them step by step, nothing links the others: other sides and parts, "
            f"which no inliers can tell), and {self.of_tried_linked:.3f} against one landmark that verified "
            "pairs link"
        )


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
    errors = CalibrationErrors.measure(pairs, images, config.rerank)
    return [*sentences, errors.in_words()] if errors.edges else sentences


def evidence_metrics(
    pairs: pd.DataFrame,
    images: pd.DataFrame,
    fits: Mapping[str, InlierFit],
    config: CalibrationConfig,
    labels: LabelEvidence | None = None,
) -> dict[str, float]:
    """Return as flat metrics what inliers and labels prove in a collection; NaN for what is not known.

    Args:
        pairs: `row_a`, `row_b`, `probability` of all tried pairs.
        images: image table.
        fits: of both kinds of pairs; none where no photos were compared.
        config: parameters.
        labels: what labels prove, None for a variant that does not use them.
    """
    metrics: dict[str, float] = {}
    for side, fit in fits.items():
        floors = {name: fit.floor(getattr(config, name)) for name in ("rerank", "expand")}
        metrics |= {
            f"verification.{side}.pairs": fit.pairs,
            f"verification.{side}.unrelated": fit.unrelated,
            f"verification.{side}.null_rate": fit.rate,
            **{f"verification.{side}.floor_{name}": floor or float("nan") for name, floor in floors.items()},
        }
    if fits:
        errors = CalibrationErrors.measure(pairs, images, config.rerank)
        metrics |= {f"calibration_error.{name}": float(value) for name, value in asdict(errors).items()}
    if labels is not None:
        metrics |= {f"label_evidence.{name}": float(value) for name, value in asdict(labels.model).items()}
    return metrics


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

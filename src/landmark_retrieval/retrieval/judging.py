"""What each result of a search is worth, and why; and whether anything was found at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from landmark_retrieval.graph.label_evidence import LabelEvidence, LabelPosterior
from landmark_retrieval.retrieval.answers import Evidence, Landmark, Match, Region, SearchResult
from landmark_retrieval.retrieval.photo import PhotoSearch
from landmark_retrieval.retrieval.presence import presence
from landmark_retrieval.retrieval.search import Found, Result
from landmark_retrieval.verification.calibration import InlierFit

LIKELY = 0.5
"""Probability from which labels are named: more likely than not."""

_NOTHING: Evidence = "none"


def answer(searching: PhotoSearch, found: Found, variant: str | None, threshold: float) -> SearchResult:
    """Return what was found, with what each result and the whole is worth.

    Args:
        searching: that found it.
        found: for one photo.
        variant: of the ablation; None for the one that is the default.
        threshold: probability from which the answer is `found`.
    """
    here = presence(searching.fit, found.most_inliers, found.tried)
    evidence = searching.evidence(variant)
    matches = [_match(searching, result, here, found, evidence) for result in found.results]
    seen = _worth(searching.fit, found.most_inliers, found.tried, here)
    best = max([round(seen, 6), *(match.probability for match in matches)])
    return SearchResult(
        results=matches,
        found=best >= threshold,
        probability=best,
        landmark=_landmark(searching, matches, found.posterior),
        turn=found.results[0].turn if found.results else 0,
        seconds=found.seconds,
        variant=searching.variant(variant).name,
    )


def _match(
    searching: PhotoSearch,
    result: Result,
    here: float,
    found: Found,
    evidence: LabelEvidence | None,
) -> Match:
    """Return a result; `here` bounds what geometry proves, as it is the best of many pairs."""
    index, labels = searching.index, found.posterior
    last = result.path[-1] if result.path else None
    why, probability, through = _NOTHING, 0.0, list[str]()
    if result.inliers is not None:
        probability = _worth(searching.fit, result.inliers, found.tried, here)
        why = "verified" if result.verified else _NOTHING
    if not result.verified and last is not None and last.verified:
        why, probability = "path", min(last.weight, here)
        through = [index.ids[step.row] for step in result.path[:-1]]
    if labels is not None and evidence is not None:
        agree = same_label(labels, evidence.index, result.row - index.rows.index.start)
        if agree > probability:
            why, probability, through = ("label" if agree >= LIKELY else why), agree, []
            if last is not None and last.label_bridge:
                through = [index.ids[row] for row in last.train_rows]
    return Match(
        id=result.image_id,
        picture=Path(index.images["path"].iloc[result.row]),
        landmark=result.landmark,
        probability=round(probability, 6),
        evidence=why,
        inliers=result.inliers,
        region=_region(result.region) if result.verified else None,
        through=through,
        similarity=result.similarity,
    )


def _landmark(
    searching: PhotoSearch, matches: Sequence[Match], labels: LabelPosterior | None
) -> Landmark | None:
    """Return the landmark that labels name: those of train images, or of the surest result."""
    named = [Landmark(match.landmark, match.probability) for match in matches if match.landmark]
    if labels is not None and labels.labels.shape[1] and labels.labels[0, 0] >= 0:
        name = searching.name_of(int(labels.labels[0, 0]))
        named.append(Landmark(name, round(float(labels.probabilities[0, 0]), 6)))
    best = max(named, key=lambda one: one.probability, default=None)
    return best if best is not None and best.probability >= LIKELY else None


def _worth(fit: InlierFit, inliers: int, tried: int, here: float) -> float:
    """Return what inliers prove: no more than the best pair does; without a fit, as if they were the best."""
    return min(float(fit.probabilities(inliers)), here) if fit.fitted else presence(fit, inliers, tried)


def same_label(photo: LabelPosterior, index: LabelPosterior, row: int) -> float:
    """Return the probability that labels of a photo and of an index row agree."""
    return float(
        sum(
            probability * float(((index.labels[row] == label) * index.probabilities[row]).sum())
            for label, probability in zip(
                photo.labels[0].tolist(), photo.probabilities[0].tolist(), strict=True
            )
            if label >= 0
        )
    )


def _region(boxes: NDArray[np.float32] | None) -> Region | None:
    if boxes is None:
        return None
    photo, match = (tuple(float(side) for side in box) for box in boxes)
    return Region(photo, match)  # type: ignore[arg-type]

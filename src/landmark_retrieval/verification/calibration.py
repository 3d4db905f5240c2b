"""What a number of inliers proves: P(same place | inliers), from the collection's own tried pairs.

The inliers of tried pairs are a mixture (Efron, "Large-scale simultaneous hypothesis testing: the choice of a
null hypothesis", JASA 2004): unrelated pairs, whose counts fall off geometrically from the bulk on, and pairs
that show the same place, whose counts are spread about evenly over the logarithm. The share of unrelated
pairs and their rate of decay are fitted by maximum likelihood (EM); one minus the local false discovery rate
is the probability. Query-index and index-index pairs have fits of their own, because their rates differ.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from landmark_retrieval.configuration import Configuration
from landmark_retrieval.verification.candidates import PLACE

logger = logging.getLogger(__name__)

SIDES = ("query_index", "index_index")
"""Kinds of pairs, each calibrated apart."""

LEAST_UNRELATED = 0.1
"""Smallest share of unrelated pairs: candidates are an image's nearest, whatever they show."""

STEP_PROBABILITY = 0.95
"""Probability from the floor on where nothing was fitted: at 0.9, two such edges in a row are trusted."""

SPAN = 50
"""Inliers above the bulk that the spread of related pairs covers at least."""

NEVER = 2**30
"""Floor where no number of inliers is enough."""

PLACES = (1, 3, 10)
"""Last places in a list of candidates that share a prior: the first, 2 to 3, 4 to 10; then all others."""

PRIOR_PAIRS = 10
"""Pairs that the share of related pairs of all places counts for at each."""

MOST_STEPS = 2000
"""Steps of EM at most; it stops before, when the share of unrelated pairs moves by less than `TOLERANCE`."""

TOLERANCE = 1e-9


class CalibrationConfig(Configuration):
    """What evidence is asked of a verified pair.

    Attributes:
        enabled: whether anything is fitted; False takes the floor for either side, as the paper does.
        min_pairs: tried pairs of a side below which nothing is fitted and the extractor's floor counts.
        rerank: probability from which a pair's inliers re-rank.
        expand: probability from which a pair expands a descriptor: a wrong one spoils the neighbours of every
            image that it stands for, so more is asked than the odds.
    """

    enabled: bool = True
    min_pairs: int = Field(default=100, ge=1, le=1_000_000_000)
    rerank: float = Field(default=0.5, gt=0, lt=1)
    expand: float = Field(default=0.9, gt=0, lt=1)


@dataclass(frozen=True)
class InlierFit:
    """P(same place | inliers) of one kind of pairs.

    Attributes:
        pairs: tried pairs that it was fitted on, or that were too few.
        start: inliers from which the mixture holds (the mode of the unrelated pairs); with no fit the floor.
        top: inliers up to which related pairs are spread.
        unrelated: share of unrelated pairs among those of at least `start` inliers; NaN without a fit.
        rate: factor by which unrelated pairs fall from one number of inliers to the next; NaN without a fit.
        related: share of related pairs among those of at least `start` inliers by the better place at which a
            list proposed them (`PLACES`); empty where places were not looked at.
    """

    pairs: int
    start: int
    top: int
    unrelated: float
    rate: float
    related: tuple[float, ...] = ()

    @property
    def fitted(self) -> bool:
        """Whether there were enough pairs."""
        return bool(np.isfinite(self.rate))

    def probabilities(self, inliers: ArrayLike) -> NDArray[np.float32]:
        """Return P(same place) of pairs with these inliers, float32 of the same shape.

        More inliers never prove less: a number of inliers is worth what the least of all higher ones is.
        Without a fit `STEP_PROBABILITY` from the floor on and 0 below.
        """
        counts = np.asarray(inliers)
        if not self.fitted:
            return np.where(counts >= self.start, STEP_PROBABILITY, 0.0).astype(np.float32)
        related, unrelated = self._log_likelihoods()
        odds = np.log1p(-self.unrelated) + related - np.log(self.unrelated) - unrelated
        table = 1 / (1 + np.exp(np.clip(-odds, -700, 700)))
        table = np.minimum.accumulate(table[::-1])[::-1]
        result = table[np.clip(counts, self.start, self.top) - self.start]
        return np.where(counts > 0, result, 0.0).astype(np.float32)

    def probabilities_at(self, inliers: ArrayLike, places: ArrayLike) -> NDArray[np.float32]:
        """Return P(same place | inliers, place in a list), float32 of the same shape.

        The same inliers prove more of a photo that a list had first than of one from far down. As
        `probabilities` where places were not looked at.

        Args:
            inliers: of each pair.
            places: from 1, the better one of both photos in any list.
        """
        if not self.fitted or not self.related:
            return self.probabilities(inliers)
        p, prior = self.probabilities(inliers).astype(np.float64), (1 - self.unrelated) / self.unrelated
        share = np.array(self.related)[np.searchsorted(PLACES, places)]
        odds = share / (1 - share) / prior * p / np.maximum(1 - p, 1e-12)
        return np.asarray(odds / (1 + odds), np.float32)

    def with_places(self, inliers: ArrayLike, places: ArrayLike) -> InlierFit:
        """Return the fit with the share of related pairs at each of `PLACES`, by EM with null and rate fixed.

        Args:
            inliers: of the pairs that it was fitted on.
            places: of the same pairs, as for `probabilities_at`.
        """
        if not self.fitted:
            return self
        counts = np.asarray(inliers)
        ratios = np.exp(np.clip(np.subtract(*self._log_likelihoods()), -700, 700))
        group, all_places, shares = np.searchsorted(PLACES, places), 1 - self.unrelated, []
        for number in range(len(PLACES) + 1):
            mine = counts[(group == number) & (counts >= self.start)]
            ratio, share = ratios[np.minimum(mine, self.top) - self.start], all_places
            for _ in range(MOST_STEPS):
                weight = (share * ratio / (share * ratio + 1 - share)).sum()
                before, share = share, float(weight + PRIOR_PAIRS * all_places) / (len(mine) + PRIOR_PAIRS)
                if abs(share - before) < TOLERANCE:
                    break
            shares.append(float(np.clip(share, 1e-9, 1 - LEAST_UNRELATED)))
        return replace(self, related=tuple(shares))

    def _log_likelihoods(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the log probabilities of start..top inliers of related pairs, and of unrelated ones."""
        above = np.arange(self.top - self.start + 1)
        return (
            np.log(_log_uniform(self.start, self.top)),
            np.log1p(-self.rate) + above * np.log(self.rate),
        )

    def floor(self, probability: float) -> int | None:
        """Return the inliers from which pairs have at least this probability; None when none has."""
        if not self.fitted:
            return self.start if probability <= STEP_PROBABILITY else None
        counts = np.arange(1, self.top + 1)
        enough = np.flatnonzero(self.probabilities(counts) >= probability)
        return int(counts[enough[0]]) if len(enough) else None


def fit_inliers(inliers: ArrayLike, floor: int, min_pairs: int = 100) -> InlierFit:
    """Fit the mixture to the inliers of one kind of tried pairs.

    Args:
        inliers: of distinct pairs; 0 where no model was found.
        floor: the extractor's measured floor: the mode of the unrelated pairs lies below it.
        min_pairs: with fewer pairs nothing is fitted.
    """
    counts = np.asarray(inliers, np.int64)
    found = counts[counts > 0]
    histogram = np.bincount(found, minlength=floor)[1:floor]
    if len(found) < min_pairs or not histogram.any():
        return InlierFit(len(counts), floor, floor + SPAN, float("nan"), float("nan"))
    start = int(histogram.argmax()) + 1
    counted = np.bincount(found[found >= start] - start).astype(np.float64)
    top = start + max(SPAN, len(counted) - 1)
    above, related = np.arange(len(counted)), _log_uniform(start, top)[: len(counted)]
    unrelated, rate = 0.5, 0.5
    for _ in range(MOST_STEPS):
        null = unrelated * (1 - rate) * rate**above
        weight = counted * null / (null + (1 - unrelated) * related)
        mean = (weight * above).sum() / weight.sum()
        rate = float(np.clip(mean / (1 + mean), 1e-6, 1 - 1e-6))
        before, share = unrelated, weight.sum() / counted.sum()
        unrelated = float(np.clip(share, LEAST_UNRELATED, 1 - 1e-9))
        if abs(unrelated - before) < TOLERANCE:
            break
    return InlierFit(len(counts), start, top, unrelated, rate)


def calibrate(
    pairs: pd.DataFrame, queries: int, floor: int, config: CalibrationConfig, by_hand: bool = False
) -> dict[str, InlierFit]:
    """Fit both kinds of tried pairs.

    Args:
        pairs: `row_a`, `row_b`, `inliers`, one row a distinct pair (`verify_pairs`).
        queries: number of queries; table rows below it are queries.
        floor: the extractor's measured floor, or one that was given.
        config: how many pairs it takes, if anything is fitted at all.
        by_hand: whether the floor was given: it counts as it is, and nothing is fitted.

    Returns:
        The fit of each of `SIDES`; a log line says where the pairs were too few.
    """
    inliers, of_queries = pairs["inliers"].to_numpy(), pairs["row_a"].to_numpy() < queries
    fits = {}
    for side, chosen in zip(SIDES, (of_queries, ~of_queries), strict=True):
        enough = NEVER if by_hand or not config.enabled else config.min_pairs
        fits[side] = fit_inliers(inliers[chosen], floor, enough)
        if side == SIDES[0] and (columns := [name for name in pairs if str(name).startswith(PLACE)]):
            fits[side] = fits[side].with_places(inliers[chosen], best_places(pairs.loc[chosen, columns]))
        logger.info("%s", in_words(side, fits[side], config))
    return fits


def floors(fits: Mapping[str, InlierFit], probability: float) -> tuple[int, int]:
    """Return the inliers from which pairs of each of `SIDES` have a probability, `NEVER` where none has."""
    query_index, index_index = (fits[side].floor(probability) or NEVER for side in SIDES)
    return query_index, index_index


def best_places(places: pd.DataFrame) -> NDArray[np.int64]:
    """Return the better place of each pair, int64 `[m]`, of one column a list in which 0 stands for none."""
    values, nowhere = places.to_numpy(np.int64), np.iinfo(np.int64).max
    return np.asarray(np.where(values > 0, values, nowhere).min(axis=1, initial=nowhere), np.int64)


def reliable_pairs(
    pairs: pd.DataFrame, queries: int, fits: Mapping[str, InlierFit], probability: float
) -> pd.DataFrame:
    """Return the pairs with 0 inliers where these prove too little, so that what is left counts.

    A pair counts from the floor of its side on. One of a query also counts when its place in a list speaks
    for it: one inlier at the floor would else be the difference between the first place and any.

    Args:
        pairs: `row_a`, `row_b`, `inliers` and, if known, places in lists (`candidates.places_of`).
        queries: number of queries; table rows below it are queries.
        fits: of both `SIDES` (`calibrate`).
        probability: P(same place) from which a pair counts.
    """
    inliers, of_queries = pairs["inliers"].to_numpy(), pairs["row_a"].to_numpy() < queries
    counts = inliers >= np.where(of_queries, *floors(fits, probability))
    columns = [name for name in pairs if str(name).startswith(PLACE)]
    if columns:
        proof = fits[SIDES[0]].probabilities_at(inliers, best_places(pairs[columns]))
        counts |= of_queries & (proof >= probability)
    return pairs.assign(inliers=np.where(counts, inliers, 0))


def pair_probabilities(
    pairs: pd.DataFrame, queries: int, fits: Mapping[str, InlierFit]
) -> NDArray[np.float32]:
    """Return P(same place) of every tried pair.

    Args:
        pairs: `row_a`, `row_b`, `inliers` (`verify_pairs`).
        queries: number of queries; table rows below it are queries.
        fits: of both `SIDES` (`calibrate`).

    Returns:
        float32 `[m]` in 0 to 1, in the order of the pairs.
    """
    inliers = pairs["inliers"].to_numpy()
    of_queries = pairs["row_a"].to_numpy() < queries
    return np.where(
        of_queries, fits[SIDES[0]].probabilities(inliers), fits[SIDES[1]].probabilities(inliers)
    ).astype(np.float32)


def expected_calibration_error(probabilities: ArrayLike, same: ArrayLike, bins: int = 10) -> float:
    """Return Σ share of a bin · |mean probability - share that is the same| over equal bins of 0 to 1.

    Naeini, Cooper, Hauskrecht: "Obtaining well calibrated probabilities using Bayesian binning", AAAI 2015.

    Args:
        probabilities: `[m]`; NaN is returned for none.
        same: bool `[m]`.
        bins: number of bins.
    """
    p, truth = np.asarray(probabilities, np.float64), np.asarray(same, np.float64)
    if len(p) == 0:
        return float("nan")
    place = np.minimum((p * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(place, p - truth, minlength=bins)
    return float(np.abs(gaps).sum() / len(p))


def in_words(side: str, fit: InlierFit, config: CalibrationConfig) -> str:
    """Say in a sentence what a side's fit is, or that there is none and what counts instead."""
    name = side.replace("_", "-")
    if not fit.fitted:
        return (
            f"{name} pairs: {fit.pairs} were tried and inliers are not calibrated on them (too few, below "
            f"verification.calibration.min_pairs = {config.min_pairs}, or switched off by a given floor "
            f"or by verification.calibration.enabled): {fit.start} inliers count as verified"
        )
    floors = ", ".join(
        f"{probability:g} from {fit.floor(probability) or 'no number of'} inliers on"
        for probability in (config.rerank, config.expand)
    )
    return (
        f"{name} pairs: {fit.pairs} were tried; {1 - fit.unrelated:.0%} of those with {fit.start} inliers or "
        f"more show the same place; unrelated ones fall by a factor of {fit.rate:.2f} an inlier; "
        f"P(same place) is {floors}"
    )


def to_plain(fits: Mapping[str, InlierFit]) -> dict[str, dict[str, Any]]:
    """Return the fits as plain values that JSON holds; None stands for what was not fitted."""
    return {
        side: {name: None if value != value else value for name, value in asdict(fit).items()}
        for side, fit in fits.items()
    }


def from_plain(values: Mapping[str, Mapping[str, Any]]) -> dict[str, InlierFit]:
    """Return the fits of `to_plain`."""
    nothing = float("nan")

    def known(fit: Mapping[str, Any]) -> dict[str, Any]:
        values = {name: nothing if value is None else value for name, value in fit.items()}
        return {**values, "related": tuple(fit.get("related", ()))}

    return {side: InlierFit(**known(fit)) for side, fit in values.items()}


def _log_uniform(start: int, top: int) -> NDArray[np.float64]:
    """Return the probability of each number of inliers start..top, even over its logarithm."""
    counts = np.arange(start, top + 1)
    share = np.log((counts + 0.5) / (counts - 0.5))
    return np.asarray(share / share.sum())

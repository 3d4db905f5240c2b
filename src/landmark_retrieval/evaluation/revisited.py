"""The protocol of Revisited Oxford and Paris.

Radenović, Iscen, Tolias, Avrithis, Chum: "Revisiting Oxford and Paris", CVPR 2018, section 4, in the
conventions of its released program: the *trapezoidal* average precision over the whole ranking, from which
junk images are taken out first. It is not interchangeable with the average precision of `gld`.

Every image is easy, hard, junk or negative for a query. Easy: easy images are to be found, hard and junk ones
are taken out. Medium: easy and hard are to be found. Hard: hard are to be found, easy and junk are taken out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from landmark_retrieval.errors import LandmarkRetrievalError

PROTOCOLS = ("easy", "medium", "hard")
"""The three evaluations."""


@dataclass(frozen=True)
class RevisitedTruth:
    """What every query should find.

    Attributes:
        easy: per query int64 index rows of images that show the landmark clearly.
        hard: per query those that show it poorly.
        junk: per query those that are neither right nor wrong.
    """

    easy: Sequence[NDArray[np.int64]]
    hard: Sequence[NDArray[np.int64]]
    junk: Sequence[NDArray[np.int64]]

    def __len__(self) -> int:
        return len(self.easy)

    def of(self, protocol: str, query: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the index rows to be found and those to be taken out, for one query.

        Args:
            protocol: one of `PROTOCOLS`.
            query: row of the query.
        """
        easy, hard, junk = self.easy[query], self.hard[query], self.junk[query]
        if protocol == "easy":
            return easy, np.concatenate([junk, hard])
        if protocol == "medium":
            return np.concatenate([easy, hard]), junk
        if protocol == "hard":
            return hard, np.concatenate([junk, easy])
        raise LandmarkRetrievalError(f"unknown protocol '{protocol}': protocols are {', '.join(PROTOCOLS)}")


def positive_positions(
    ranking: NDArray[np.int32], positives: NDArray[np.int64], junk: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return where the positives are once the junk is taken out, from 0, ascending.

    Args:
        ranking: int32 `[k]` index rows of one query, best first, -1 where there is no result.
        positives: index rows to be found.
        junk: index rows to be taken out.

    Raises:
        LandmarkRetrievalError: the ranking repeats a result.
    """
    results = ranking[ranking >= 0]
    if len(np.unique(results)) != len(results):
        raise LandmarkRetrievalError(
            "a ranking names an image twice, which this protocol does not allow; rank every image once"
        )
    kept = results[~np.isin(results, junk)]
    return np.flatnonzero(np.isin(kept, positives)).astype(np.int64)


def trapezoidal_average_precision(positions: NDArray[np.int64], positives: int) -> float:
    """Return the area under the precision-recall curve by the trapezoidal rule.

    Args:
        positions: int64 `[found]` ranks of the positives that were found, from 0, ascending.
        positives: number of positives, found or not; at least 1.

    Returns:
        A value in 0 to 1. A ranking that stops early loses the positives that it does not reach.
    """
    found = np.arange(len(positions))
    before = np.where(positions == 0, 1.0, found / np.maximum(positions, 1))
    after = (found + 1) / (positions + 1)
    return float(((before + after) / 2).sum() / positives)


def revisited_precision(positions: NDArray[np.int64], k: int) -> float:
    """Return P@k as the released program does: over the ranks up to the last positive, when that is before k.

    Args:
        positions: int64 `[found]` ranks of the positives that were found, from 0, ascending.
        k: ranks that count.

    Returns:
        A value in 0 to 1; 0 when nothing was found (where the released program fails).
    """
    if not len(positions):
        return 0.0
    depth = min(int(positions[-1]) + 1, k)
    return float((positions < depth).sum() / depth)


def score_revisited(
    ranking: NDArray[np.int32], truth: RevisitedTruth, protocol: str, ks: Sequence[int] = (1, 5, 10)
) -> pd.DataFrame:
    """Score every query by one protocol.

    Args:
        ranking: int32 `[q, n]` index rows, best first, -1 where there is no result.
        truth: truth of the same queries.
        protocol: one of `PROTOCOLS`.
        ks: ranks of the precisions.

    Returns:
        One row a query: `AP` and `P_at_<k>`; NaN for a query with nothing to find, which counts in no mean.

    Raises:
        LandmarkRetrievalError: the numbers of queries differ, a ranking repeats a result, or the protocol is
            unknown.
    """
    if len(ranking) != len(truth):
        raise LandmarkRetrievalError(
            f"the ranking has {len(ranking)} rows but the ground truth {len(truth)} queries; use the ground "
            "truth of the same data set"
        )
    columns = ["AP", *(f"P_at_{k}" for k in ks)]
    scores = np.full((len(truth), len(columns)), np.nan)
    for query, results in enumerate(ranking):
        positives, junk = truth.of(protocol, query)
        if len(positives):
            positions = positive_positions(results, positives, junk)
            scores[query, 0] = trapezoidal_average_precision(positions, len(positives))
            scores[query, 1:] = [revisited_precision(positions, k) for k in ks]
    return pd.DataFrame(scores, columns=columns)


def evaluate_revisited(
    ranking: NDArray[np.int32], truth: RevisitedTruth, ks: Sequence[int] = (1, 5, 10)
) -> dict[str, float]:
    """Return the metrics of one ranking by all three protocols.

    Args:
        ranking: int32 `[q, n]` index rows, best first, -1 where there is no result.
        truth: truth of the same queries.
        ks: ranks of the precisions.

    Returns:
        `mAP_easy`, `mAP_medium`, `mAP_hard` and `mP_at_<k>_<protocol>`; without those for which no query has
        anything to find.

    Raises:
        LandmarkRetrievalError: as `score_revisited`.
    """
    metrics = {}
    for protocol in PROTOCOLS:
        scores = score_revisited(ranking, truth, protocol, ks).dropna(subset=["AP"])
        if len(scores):
            means = scores.mean()
            metrics[f"mAP_{protocol}"] = float(means["AP"])
            metrics |= {f"mP_at_{k}_{protocol}": float(means[f"P_at_{k}"]) for k in ks}
    return metrics

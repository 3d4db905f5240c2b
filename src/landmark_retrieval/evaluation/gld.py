"""Metrics of the Google Landmarks retrieval challenges, on arrays of rows.

Conventions of the data set's released metrics (Google Landmarks Dataset v2, Weyand et al., CVPR 2020, section
5): at most 100 predictions a query count; a repeated prediction is worth nothing but keeps its rank; a query
without predictions scores 0; queries of usage `Ignored` and queries without relevant images are in no mean.
`id_metrics` scores files of ids by the same functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from landmark_retrieval.errors import ArrayError, LandmarkRetrievalError

DEPTH = 100
"""Predictions of a query that count."""

SCORES = ("AP_at_100", "P_at_10", "R_at_1", "R_at_10", "position")
"""Columns of `score_queries`, one value a query each."""

IGNORED = "Ignored"

Relevant = Sequence[NDArray[np.int64]]
"""Per query the index rows of its landmark, in any order."""


def relevance(ranking: NDArray[np.int32], relevant: Relevant) -> NDArray[np.bool_]:
    """Mark the results that are relevant and occur for the first time.

    Args:
        ranking: int32 `[q, k]` index rows, best first, -1 where there is no result.
        relevant: per query the index rows of its landmark.

    Returns:
        bool `[q, k]`; missing results and repetitions of an earlier result are False.

    Raises:
        ArrayError: the two have different numbers of queries.
    """
    ranking = np.asarray(ranking)
    if ranking.ndim != 2 or len(ranking) != len(relevant):
        raise ArrayError(
            f"a ranking of shape {ranking.shape} does not fit {len(relevant)} queries: it needs one row a "
            "query; make the ranking again from the same image table"
        )
    q, k = ranking.shape
    if not q or not k:
        return np.zeros((q, k), dtype=bool)
    # One number per (query, row), so that all queries are looked up at once.
    width = 1 + max(int(ranking.max()), max((int(rows.max()) for rows in relevant if len(rows)), default=0))
    query_of = np.repeat(np.arange(q, dtype=np.int64), [len(rows) for rows in relevant])
    wanted = np.unique(query_of * width + np.concatenate([np.asarray(rows, np.int64) for rows in relevant]))
    keys = np.arange(q, dtype=np.int64)[:, None] * width + ranking
    hits = np.isin(keys, wanted, kind="sort") & (ranking >= 0)
    return hits & _first_occurrences(ranking)


def average_precision(ranking: NDArray[np.int32], relevant: Relevant, k: int = DEPTH) -> NDArray[np.float64]:
    """Return AP@k of every query: Σ P(r)·rel(r) / min(number of relevant images, k) over ranks r <= k.

    Args:
        ranking: int32 `[q, any]` index rows, best first, -1 where there is no result.
        relevant: per query the index rows of its landmark.
        k: ranks that count.

    Returns:
        float64 `[q]` in 0 to 1; NaN for a query without relevant images.
    """
    return _average_precision(relevance(ranking[:, :k], relevant), _counts(relevant), k)


def precision(ranking: NDArray[np.int32], relevant: Relevant, k: int) -> NDArray[np.float64]:
    """Return P@k: the share of the first k ranks that is relevant; missing results count as wrong.

    Args:
        ranking: int32 `[q, any]` index rows, best first, -1 where there is no result.
        relevant: per query the index rows of its landmark.
        k: ranks that count.

    Returns:
        float64 `[q]` in 0 to 1; NaN for a query without relevant images.
    """
    return _precision(relevance(ranking[:, :k], relevant), _counts(relevant), k)


def recall(ranking: NDArray[np.int32], relevant: Relevant, k: int) -> NDArray[np.float64]:
    """Return R@k: |relevant among the first k| / min(number of relevant images, k).

    At k = 1 this is 1 when the first result is right and 0 otherwise, so its mean is the hit rate. For
    queries with one relevant image it is 1 when that image is among the first k, so that its mean bounds the
    mean average precision that re-ranking the first k results can reach. Arguments and result are those of
    `precision`.
    """
    return _recall(relevance(ranking[:, :k], relevant), _counts(relevant), k)


def score_queries(
    ranking: NDArray[np.int32], relevant: Relevant, usage: NDArray[Any] | None = None
) -> pd.DataFrame:
    """Score every query on its own; means, intervals and comparisons start from this table.

    Args:
        ranking: int32 `[q, any]` index rows, best first, -1 where there is no result.
        relevant: per query the index rows of its landmark.
        usage: per query `Public`, `Private` or `Ignored`, anything else for neither; None when the data set
            has no such division.

    Returns:
        One row a query, columns `SCORES` (float64, NaN for queries that do not count: of usage `Ignored`
        or without relevant images; `position` is the rank of the first relevant result, from 1, 101 when
        none is among the first 100) and, when given, `usage`.

    Raises:
        LandmarkRetrievalError: the arguments have different numbers of queries.
    """
    hits, counts = relevance(ranking[:, :DEPTH], relevant), _counts(relevant)
    scores = pd.DataFrame(
        {
            "AP_at_100": _average_precision(hits, counts, DEPTH),
            "P_at_10": _precision(hits, counts, 10),
            "R_at_1": _recall(hits, counts, 1),
            "R_at_10": _recall(hits, counts, 10),
            "position": _position(hits, counts, DEPTH),
        }
    )
    if usage is not None:
        if len(usage) != len(scores):
            raise LandmarkRetrievalError(
                f"{len(usage)} usages for {len(scores)} queries: give one a query, from the same image table"
            )
        scores["usage"] = np.asarray(usage)
        scores.loc[scores["usage"] == IGNORED, list(SCORES)] = np.nan
    return scores


def summarise(scores: pd.DataFrame) -> dict[str, float]:
    """Average the scores of queries into the metrics of a variant.

    Args:
        scores: from `score_queries`.

    Returns:
        As `evaluate_variant`.

    Raises:
        LandmarkRetrievalError: no query counts.
    """
    counted = scores[scores["AP_at_100"].notna()]
    if counted.empty:
        raise LandmarkRetrievalError(
            "no query has a relevant index image, so nothing can be measured: check landmark_id, split and "
            "usage in the image table"
        )
    metrics = {
        "mAP_at_100": float(counted["AP_at_100"].mean()),
        "P_at_10": float(counted["P_at_10"].mean()),
        "R_at_1": float(counted["R_at_1"].mean()),
        "R_at_10": float(counted["R_at_10"].mean()),
        "mean_position": float(counted["position"].mean()),
        "queries": float(len(counted)),
    }
    if "usage" in counted:
        for usage in ("Public", "Private"):
            part = counted.loc[counted["usage"] == usage, "AP_at_100"]
            if len(part):
                metrics[f"mAP_at_100_{usage.lower()}"] = float(part.mean())
    return metrics


def evaluate_variant(
    ranking: NDArray[np.int32], relevant: Relevant, usage: NDArray[Any] | None = None
) -> dict[str, float]:
    """Return all metrics of one ranking, flat and by the names under which they are logged.

    Args:
        ranking: int32 `[q, 100]` index rows, best first, -1 where there is no result.
        relevant: per query the index rows of its landmark.
        usage: per query `Public`, `Private` or `Ignored`; None when the data set has no such division.

    Returns:
        Means over the queries that count: `mAP_at_100`, `P_at_10`, `R_at_1`, `R_at_10`, `mean_position` (of
        the first relevant result, from 1, 101 when there is none), their number `queries`, and, where there
        are such queries, `mAP_at_100_public` and `mAP_at_100_private`.

    Raises:
        LandmarkRetrievalError: the arguments have different numbers of queries, or no query counts.
    """
    return summarise(score_queries(ranking, relevant, usage))


def _first_occurrences(ranking: NDArray[np.int32]) -> NDArray[np.bool_]:
    order = np.argsort(ranking, axis=1, kind="stable")
    ordered = np.take_along_axis(ranking, order, axis=1)
    first = np.ones(ranking.shape, dtype=bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    result = np.empty_like(first)
    np.put_along_axis(result, order, first, axis=1)
    return result


def _counts(relevant: Relevant) -> NDArray[np.int64]:
    return np.array([len(np.unique(rows)) for rows in relevant], dtype=np.int64)


def _average_precision(hits: NDArray[np.bool_], counts: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    ranks = np.arange(1, hits.shape[1] + 1)
    gains = (hits.cumsum(axis=1) / ranks * hits).sum(axis=1)
    return _ratio(gains, np.minimum(counts, k))


def _precision(hits: NDArray[np.bool_], counts: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    return _ratio(hits[:, :k].sum(axis=1), np.where(counts > 0, k, 0))


def _recall(hits: NDArray[np.bool_], counts: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    return _ratio(hits[:, :k].sum(axis=1), np.minimum(counts, k))


def _position(hits: NDArray[np.bool_], counts: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    missed = np.full((len(hits), 1), True)
    positions = np.hstack([hits, missed]).argmax(axis=1) + 1.0
    positions[positions > hits.shape[1]] = k + 1.0
    return np.where(counts > 0, positions, np.nan)


def _ratio(values: NDArray[Any], by: NDArray[Any]) -> NDArray[np.float64]:
    return np.where(by > 0, values / np.maximum(by, 1), np.nan)

"""Confidence intervals by resampling queries.

The bootstrap of Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13: queries are drawn
with replacement, and the percentiles of the mean over the draws bound the interval. Two variants are compared
on the same draws, so what is common to both (easy and hard queries) cancels out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from landmark_retrieval.configuration import Configuration, Seed
from landmark_retrieval.errors import LandmarkRetrievalError

_CELLS = 2**22
"""Draws times queries that are held at a time."""


CONFIDENCE = 0.95
"""Share of draws inside an interval."""


class BootstrapConfig(Configuration):
    """How intervals are computed.

    Attributes:
        resamples: draws of as many queries as there are.
        seed: seed of the draws; the same seed draws the same queries for every variant.
    """

    resamples: int = Field(default=2000, ge=100, le=1_000_000)
    seed: Seed = 0


@dataclass(frozen=True)
class Interval:
    """A mean over queries and the interval around it.

    Attributes:
        mean: mean of the queries that count.
        low: lower bound.
        high: upper bound.
        queries: how many count. With fewer than about 20 the interval is too narrow, as a few queries cannot
            show how different queries are.
    """

    mean: float
    low: float
    high: float
    queries: int


def mean_interval(values: NDArray[np.float64], config: BootstrapConfig | None = None) -> Interval:
    """Return the mean over queries with its confidence interval.

    Args:
        values: float `[q]`, such as AP@100; NaN for queries that do not count.
        config: parameters, the defaults when None.

    Raises:
        LandmarkRetrievalError: no query counts.
    """
    config = config or BootstrapConfig()
    counted = np.asarray(values, np.float64)
    counted = counted[~np.isnan(counted)]
    if not len(counted):
        raise LandmarkRetrievalError("no query counts, so there is no confidence interval to compute")
    tail = 50 * (1 - CONFIDENCE)
    low, high = np.percentile(_resampled_means(counted, config), [tail, 100 - tail])
    return Interval(float(counted.mean()), float(low), float(high), len(counted))


def difference_interval(
    values: NDArray[np.float64], baseline: NDArray[np.float64], config: BootstrapConfig | None = None
) -> Interval:
    """Return the mean gain over a baseline with its confidence interval, paired by query.

    An interval that does not contain 0 tells that the variants differ by more than the choice of queries
    explains.

    Args:
        values: float `[q]`; NaN for queries that do not count.
        baseline: float `[q]`, of the same queries in the same order.
        config: parameters, the defaults when None.

    Raises:
        LandmarkRetrievalError: the numbers of queries differ, or no query counts.
    """
    if len(values) != len(baseline):
        raise LandmarkRetrievalError(
            f"two variants can be compared on the same queries only, but one has {len(values)} and the other "
            f"{len(baseline)}"
        )
    return mean_interval(np.asarray(values, np.float64) - np.asarray(baseline, np.float64), config)


def intervals_table(
    scores: Mapping[str, NDArray[np.float64]],
    config: BootstrapConfig | None = None,
    compared_with: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Return the interval of every variant and of its gain over the one that it is compared with.

    Args:
        scores: per variant float `[q]`, such as AP@100, of the same queries.
        config: parameters, the defaults when None.
        compared_with: by variant the one that it is compared with; None compares each with the one before.

    Returns:
        One row a variant: `variant`, `queries`, `mean`, `low`, `high`, `compared_with` (empty for none),
        `gain`, `gain_low`, `gain_high` (NaN for none).

    Raises:
        LandmarkRetrievalError: as `difference_interval`.
    """
    nan = float("nan")
    rows = []
    others = dict(zip(list(scores)[1:], scores, strict=False)) if compared_with is None else compared_with
    for variant, values in scores.items():
        interval = mean_interval(values, config)
        gain = Interval(nan, nan, nan, 0)
        previous = others.get(variant)
        if previous is not None:
            gain = difference_interval(values, scores[previous], config)
        rows.append(
            {
                "variant": variant,
                "queries": interval.queries,
                "mean": interval.mean,
                "low": interval.low,
                "high": interval.high,
                "compared_with": previous or "",
                "gain": gain.mean,
                "gain_low": gain.low,
                "gain_high": gain.high,
            }
        )
    return pd.DataFrame(rows)


def usage_intervals(
    scores: Mapping[str, NDArray[np.float64]],
    usage: NDArray[Any] | None = None,
    config: BootstrapConfig | None = None,
    compared_with: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Return `intervals_table` for all queries and, where queries have a usage, for its two parts.

    Args:
        scores: per variant AP@100, float `[q]`; NaN for queries that do not count.
        usage: `[q]` of `Public`, `Private` or others; None when the data set has no such division.
        config: parameters, the defaults when None.
        compared_with: as in `intervals_table`.

    Returns:
        The rows of `intervals_table` with `metric` (`mAP_at_100`, `mAP_at_100_public`, ...) before them.
    """
    parts = {"mAP_at_100": np.ones(len(next(iter(scores.values()))), np.bool_)}
    if usage is not None:
        parts |= {f"mAP_at_100_{name.lower()}": usage == name for name in ("Public", "Private")}
    tables = []
    for metric, chosen in parts.items():
        of_part = {variant: values[chosen] for variant, values in scores.items()}
        if any(not np.isnan(values).all() for values in of_part.values()):
            tables.append(intervals_table(of_part, config, compared_with).assign(metric=metric))
    whole = pd.concat(tables, ignore_index=True)
    return whole[["metric", *whole.columns.drop("metric")]]


def no_intervals() -> pd.DataFrame:
    """Return the table of `usage_intervals` for a collection of which nothing can be measured: no rows."""
    text, numbers = ["metric", "variant", "compared_with"], ["queries", "mean", "low", "high"]
    gains = ["gain", "gain_low", "gain_high"]
    columns = [*text[:2], *numbers, text[2], *gains]
    return pd.DataFrame({name: pd.Series(dtype="str" if name in text else "float64") for name in columns})


def interval_metrics(intervals: pd.DataFrame, variant: str) -> dict[str, float]:
    """Return the intervals of one variant as flat metrics.

    Args:
        intervals: from `usage_intervals`.
        variant: name of the variant.

    Returns:
        `{metric}_low`, `{metric}_high`, and for all variants but the first `{metric}_gain` over the one that
        it is compared with, with `{metric}_gain_low` and `{metric}_gain_high`.
    """
    return {
        f"{row['metric']}_{bound}": float(row[bound])
        for row in intervals[intervals["variant"] == variant].to_dict("records")
        for bound in ("low", "high", "gain", "gain_low", "gain_high")
        if pd.notna(row[bound])
    }


def _resampled_means(values: NDArray[np.float64], config: BootstrapConfig) -> NDArray[np.float64]:
    """Return the mean of every draw, float64 `[resamples]`; the draws depend on seed and length only."""
    random = np.random.default_rng(config.seed)
    means = np.empty(config.resamples)
    step = max(1, _CELLS // len(values))
    for start in range(0, config.resamples, step):
        stop = min(start + step, config.resamples)
        drawn = random.integers(0, len(values), size=(stop - start, len(values)))
        means[start:stop] = values[drawn].mean(axis=1)
    return means

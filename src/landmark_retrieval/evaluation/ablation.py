"""The ablation: variants side by side, as the paper's Table 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from landmark_retrieval.evaluation.bootstrap import CONFIDENCE
from landmark_retrieval.runtime.text_tables import text_table

METRICS = ("mAP_at_100", "mAP_at_100_public", "mAP_at_100_private", "P_at_10", "R_at_1", "R_at_10")
"""Metrics of the table, in the order of its columns."""

TITLES = {
    "mAP_at_100": "mAP@100",
    "mAP_at_100_public": "public",
    "mAP_at_100_private": "private",
    "P_at_10": "P@10",
    "R_at_1": "R@1",
    "R_at_10": "R@10",
}
"""What the metrics are called in tables for people."""

USAGE_METRICS = ("mAP_at_100_public", "mAP_at_100_private")
"""Metrics that only data sets with such a division have."""

NOT_MEASURED = "Nothing says what a photo should find (no landmarks, no lists), so nothing is measured."

COLUMNS = ("variant", *METRICS, "seconds")
"""Columns of the table."""


def ablation_table(metrics: Mapping[str, Mapping[str, float]], seconds: Mapping[str, float]) -> pd.DataFrame:
    """Return the ablation table.

    Args:
        metrics: per variant, what `gld.evaluate_variant` returned.
        seconds: per variant, computing time from the photos to the ranking in seconds.

    Returns:
        Columns `COLUMNS`, one row a variant in the order given. NaN where the data set has no such division
        or nothing was measured.
    """
    nan = float("nan")
    rows = [
        (
            variant,
            *(float(measured.get(name, nan)) for name in METRICS),
            round(float(seconds.get(variant, nan)), 1),
        )
        for variant, measured in metrics.items()
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def format_table(
    table: pd.DataFrame,
    data_set: str | None = None,
    counts: Mapping[str, int] | None = None,
    skipped: int | None = None,
    intervals: pd.DataFrame | None = None,
) -> str:
    """Return the ablation table as text of fixed width for a terminal.

    Args:
        table: from `ablation_table`.
        data_set: name of the data set, for the line above the table.
        counts: images of each split (`query`, `index`, `train`), for the same line.
        skipped: images that could not be read, for a line below the table.
        intervals: from `bootstrap.usage_intervals`, shown below the table.

    Returns:
        Lines without a newline at the end; metrics with four decimals, "-" for what there is not. Where no
        variant has one of `USAGE_METRICS`, their columns are left out. Where nothing was measured, one
        sentence stands for the table.
    """
    title, measured = _title(data_set, counts), bool(table[list(METRICS)].notna().any(axis=None))
    if not measured:
        return "\n".join([*([title, ""] if title else []), NOT_MEASURED, *_skipped_lines(skipped)])
    divided = table[list(USAGE_METRICS)].notna().any(axis=None)
    columns = [name for name in COLUMNS if divided or name not in USAGE_METRICS]
    cells = [columns]
    for row in table[columns].itertuples(index=False):
        cells.append([str(row[0]), *(_number(value, 4) for value in row[1:-1]), _number(row[-1], 1)])
    lines = text_table(cells)
    if intervals is not None:
        lines += ["", f"{CONFIDENCE:.0%} intervals over queries (bootstrap)", "", *_interval_lines(intervals)]
    if title:
        lines[:0] = [title, ""]
    return "\n".join([*lines, *_skipped_lines(skipped)])


def format_published(rows: Sequence[tuple[str, float | None, float | None]], source: str) -> str:
    """Return figures that others published as text, to stand beside and never inside the measured table.

    Args:
        rows: name, public and private mAP@100, None where it was not published.
        source: where they were published.
    """
    nan = float("nan")
    cells = [["published, not measured here", "public", "private"]]
    cells += [
        [name, *(_number(nan if value is None else value, 4) for value in values)] for name, *values in rows
    ]
    return "\n".join([*text_table(cells), "", source])


def _interval_lines(intervals: pd.DataFrame) -> list[str]:
    cells = [["variant", "metric", "interval", "gain over the variant before", "its interval"]]
    before = None
    for row in intervals.to_dict("records"):
        gained, other = pd.notna(row["gain"]), row["compared_with"]
        over, before = "" if other == before else f" (over {other})", row["variant"]
        cells.append(
            [
                row["variant"],
                row["metric"],
                f"{row['low']:.4f} to {row['high']:.4f}",
                f"{row['gain']:+.4f}{over}" if gained else "-",
                f"{row['gain_low']:+.4f} to {row['gain_high']:+.4f}" if gained else "-",
            ]
        )
    return text_table(cells)


def _title(data_set: str | None, counts: Mapping[str, int] | None) -> str:
    parts = [f"data set {data_set}"] if data_set else []
    if counts:
        names = {"query": "queries", "index": "index images", "train": "train images"}
        if not counts.get("query", 1):
            names |= {"index": "photos, each asked against the others"}
            counts = {split: number for split, number in counts.items() if number}
        parts.append(", ".join(f"{number} {names.get(split, split)}" for split, number in counts.items()))
    return ": ".join(parts)


def _skipped_lines(number: int | None) -> list[str]:
    return [] if number is None else ["", _skipped(number)]


def _skipped(number: int) -> str:
    if number == 0:
        return "No image was skipped."
    if number == 1:
        return "1 image was skipped as unreadable and counts as not found; the report names it."
    return f"{number} images were skipped as unreadable and count as not found; the report names them."


def _number(value: float, decimals: int) -> str:
    return "-" if pd.isna(value) else f"{value:.{decimals}f}"

"""Figures of the ablation."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from landmark_retrieval.evaluation.ablation import NOT_MEASURED
from landmark_retrieval.retrieval.variants import (
    BLEND_QE_SV_EGT,
    BLEND_QE_SV_SEMISUP_EGT,
    compared_with,
    stages_in_words,
)

SERIES = {
    "mAP_at_100": ("mAP@100", "#0072B2"),
    "mAP_at_100_public": ("public", "#56B4E9"),
    "mAP_at_100_private": ("private", "#009E73"),
}
"""Metrics drawn as bars, with their names and colours (Okabe and Ito's, which colour-blind readers can tell
apart, and of different lightness)."""

BOUND = ("R_at_10", "recall@10", "#D55E00")
"""Metric drawn as a line across the bars: what is among the first ten, within reach of re-ranking them."""

INTERVAL = "confidence interval"
"""What the thin line across the end of a bar is, in the legend."""

_LOW = 0.08
"""Bars up to this value carry their number on top rather than at their foot, where no line strikes it."""

POINT = 28.0
"""Area of a point of one query, in square points; several queries at one place have so much each."""

_LARGEST_POINT = 500.0
"""Area of the largest point; where more queries coincide, all points shrink in proportion."""

_SMALLEST_POINT = 9.0
"""Area below which no point shrinks, so that a single query stays visible."""

_DARK_TEXT = ("mAP_at_100_public",)
"""Series whose colour is too light for white numbers."""

TITLE = "Ablation: each variant adds one stage"


def plot_ablation(table: pd.DataFrame, intervals: pd.DataFrame | None = None) -> Figure:
    """Return the ablation as grouped bars, with recall@10 as a line across each group.

    Args:
        table: from `evaluation.ablation_table`; metrics that are missing everywhere are left out.
        intervals: from `evaluation.usage_intervals`; where given, a thin line shows the interval of each bar.
    """
    bounds = {} if intervals is None else _bounds(intervals)
    shown = _shown(table)
    figure = Figure(figsize=(9.6, 4.6), layout="constrained")
    axes = figure.subplots()
    if not shown:
        axes.set_axis_off()
        axes.text(0.5, 0.5, NOT_MEASURED, ha="center", va="center")
        return figure
    groups = np.arange(len(table))
    width = min(0.69 / max(len(shown), 1), 0.42)
    for number, metric in enumerate(shown):
        centres = groups + (number - (len(shown) - 1) / 2) * width
        _draw_bars(axes, table, metric, centres, width * 0.94, bounds)
    _draw_bound(axes, table, max(len(shown), 1) * width / 2 + 0.04)
    axes.set_xticks(groups, [_tick(str(variant)) for variant in table["variant"]], fontsize=9)
    axes.set_ylim(0, 1.02)
    axes.set_xlim(-0.6, len(table) - 0.4 + 0.05)
    axes.set_ylabel("mean over queries")
    axes.grid(axis="y", color="#e4e4e4", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.suptitle(TITLE, x=0.01, ha="left", fontsize=12, fontweight="bold")
    handles, labels = axes.get_legend_handles_labels()
    last = [labels.index(name) for name in (INTERVAL, BOUND[1]) if name in labels]
    order = [number for number in range(len(labels)) if number not in last] + last
    figure.legend(
        [handles[number] for number in order],
        [labels[number] for number in order],
        frameon=False,
        ncols=len(labels),
        loc="outside lower left",
        fontsize=9,
    )
    return figure


def plot_ablation_interactive(table: pd.DataFrame) -> go.Figure:
    """Return the same as a Plotly figure; pointing at a bar gives all digits.

    Args:
        table: from `evaluation.ablation_table`; metrics that are missing everywhere are left out.
    """
    variants = [str(variant) for variant in table["variant"]]
    bars = [
        go.Bar(
            name=SERIES[metric][0],
            x=variants,
            y=table[metric].to_list(),
            marker_color=SERIES[metric][1],
            text=[_label(value) for value in table[metric]],
            textposition="inside",
            insidetextanchor="end",
            textangle=0,
            hovertemplate="%{x}<br>" + SERIES[metric][0] + " %{y:.4f}<extra></extra>",
        )
        for metric in _shown(table)
    ]
    metric, name, colour = BOUND
    bound = go.Scatter(
        name=name,
        x=variants,
        y=table[metric].to_list(),
        mode="markers",
        marker={"symbol": "line-ew", "size": 70, "line": {"width": 3, "color": colour}, "color": colour},
        hovertemplate="%{x}<br>" + name + " %{y:.4f}<extra></extra>",
    )
    figure = go.Figure([*bars, bound])
    figure.update_layout(
        title=TITLE,
        barmode="group",
        yaxis={"range": [0, 1.02], "title": "mean over queries"},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0},
        template="plotly_white",
        bargap=0.25,
    )
    return figure


def plot_sweep(table: pd.DataFrame) -> Figure:
    """Return held-out mAP over the thresholds of EGT, and over the options of the label bridge.

    Args:
        table: from `evaluation.sweep.sweep`.
    """
    plain = table[table["variant"] == BLEND_QE_SV_EGT.name]
    bridged = table[table["variant"] == BLEND_QE_SV_SEMISUP_EGT.name]
    figure = Figure(figsize=(9.6, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(plain))
    left.plot(places, plain["mAP_at_100"], marker="o", color="#0072B2")
    left.set_xticks(places, [f"{t:g}" for t in plain["t"]])
    left.set_xlabel("threshold t")
    left.set_ylabel("mAP@100 on held-out train images")
    chosen = np.flatnonzero(plain["chosen"])
    left.scatter(chosen, plain["mAP_at_100"].iloc[chosen], s=120, facecolors="none", edgecolors="#D55E00")
    left.set_title("EGT", loc="left")
    for (order, votes), group in bridged.groupby(["order", "index_votes"], sort=False):
        right.plot(
            np.arange(len(group)),
            group["mAP_at_100"],
            marker="o" if votes == 3 else "s",
            label=f"{order}, {votes:.0f} votes",
        )
        right.set_xticks(np.arange(len(group)), [f"{floor:g}" for floor in group["min_similarity"]])
    right.set_xlabel("least similarity of a vote")
    right.set_title("label bridges at the best t", loc="left")
    if len(bridged):
        right.legend(frameon=False, fontsize=8)
    for axes in (left, right):
        axes.grid(axis="y", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def plot_average_precision(average_precision: NDArray[np.float64]) -> Figure:
    """Return the AP of every query of one variant, best first.

    Args:
        average_precision: `[q]`; NaN (queries without relevant images) is left out.
    """
    values = np.sort(average_precision[~np.isnan(average_precision)])[::-1]
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    steps = np.arange(len(values) + 1)
    axes.fill_between(
        steps, np.append(values, values[-1:]) if len(values) else [0.0], step="post", color="#0072B2"
    )
    axes.set(xlim=(0, max(1, len(values))), ylim=(0, 1.02), xlabel="queries, best first", ylabel="AP@100")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def plot_changes(average_precision: Mapping[str, NDArray[np.float64]]) -> Figure:
    """Return a scatter for each variant and the one that it is compared with: AP of every query in both.

    Queries at one place are one point, whose area is in proportion to their number.

    Args:
        average_precision: per variant `[q]`, of the same queries, in the order of the ablation; queries with
            NaN are left out.
    """
    pairs = [(before, after) for after, before in compared_with(list(average_precision)).items()]
    figure = Figure(figsize=(3.9 * max(len(pairs), 1), 4.85), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.1)  # type: ignore[union-attr, call-arg]
    panels = np.atleast_1d(figure.subplots(1, max(len(pairs), 1), sharey=True))
    for axes, (before, after) in zip(panels, pairs, strict=False):
        (x, y), queries = _coinciding(average_precision[before], average_precision[after])
        better, worse = y > x, y < x
        areas = _areas(queries)
        axes.plot([0, 1], [0, 1], color="#999999", linewidth=1, zorder=1)
        for mask, marker, colour, word in (
            (better, "^", "#0072B2", "better"),
            (worse, "v", "#D55E00", "worse"),
            (~better & ~worse, "o", "#7f7f7f", "equal"),
        ):
            label = f"{int(queries[mask].sum())} {word}"
            # Not clipped: the points of many queries lie at the corners and are larger than the margin.
            axes.scatter(
                x[mask],
                y[mask],
                areas[mask],
                colour,
                marker,
                alpha=0.6,
                linewidths=0,
                label=label,
                zorder=2,
                clip_on=False,
            )
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=f"AP@100 of {before}", title=_tick(after))
        axes.title.set_fontsize(9)
        axes.set_aspect("equal")
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelleft=True)  # a panel may be all that a narrow screen shows
        legend = axes.legend(
            frameon=False,
            fontsize=9,
            loc="upper center",
            bbox_to_anchor=(0.5, -0.14),
            ncols=3,
            handletextpad=0.1,
            columnspacing=1.2,
            scatterpoints=1,
        )
        for handle in legend.legend_handles:
            handle.set_sizes([POINT])
    panels[0].set_ylabel("AP@100 with the stage added")
    return figure


def as_png(figure: Figure, dpi: int = 100) -> bytes:
    """Return a figure as a PNG file.

    Args:
        figure: figure of matplotlib.
        dpi: pixels per inch.
    """
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi, metadata={"Software": None})
    return file.getvalue()


def _coinciding(
    x: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the different points, `[2, n]`, and how many queries are at each; NaN is left out."""
    counted = ~(np.isnan(x) | np.isnan(y))
    # Rounded: what differs by less is one place, and equal.
    points = np.round(np.stack([x[counted], y[counted]]), 9)
    places, queries = np.unique(points, axis=1, return_counts=True)
    return places.astype(np.float64), queries.astype(np.int64)


def _areas(queries: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the area of each point, in proportion to its queries as far as that can be seen."""
    one = min(POINT, _LARGEST_POINT / max(int(queries.max(initial=1)), 1))
    return np.maximum(one * queries.astype(np.float64), _SMALLEST_POINT)


def _shown(table: pd.DataFrame) -> list[str]:
    return [metric for metric in SERIES if table[metric].notna().any()]


def _bounds(intervals: pd.DataFrame) -> dict[tuple[str, str], tuple[float, float]]:
    """Return both ends of the intervals by variant and metric."""
    return {
        (str(row["variant"]), str(row["metric"])): (float(row["low"]), float(row["high"]))
        for row in intervals.to_dict("records")
    }


def _draw_bars(
    axes: Axes,
    table: pd.DataFrame,
    metric: str,
    centres: NDArray[Any],
    width: float,
    bounds: Mapping[tuple[str, str], tuple[float, float]],
) -> None:
    """Draw one metric of all variants, each bar with its number and, where there is one, its interval."""
    name, colour = SERIES[metric]
    axes.bar(centres, table[metric], width, label=name, color=colour)
    known = [(at, *bounds[key]) for at, key in _keys(table, metric, centres) if key in bounds]
    if known:
        places, lows, highs = zip(*known, strict=True)
        first = INTERVAL not in axes.get_legend_handles_labels()[1]
        axes.vlines(places, lows, highs, colors="black", linewidth=1.2, label=INTERVAL if first else "")
    for (centre, key), value in zip(_keys(table, metric, centres), table[metric], strict=True):
        inside = value > _LOW
        top = max(0 if np.isnan(value) else value, bounds.get(key, (0.0, 0.0))[1])
        axes.annotate(
            _label(value),
            (centre, 0 if inside else top),
            (0, 4 if inside else 3),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontsize=9,
            color="black" if not inside or metric in _DARK_TEXT else "white",
        )


def _keys(table: pd.DataFrame, metric: str, centres: NDArray[Any]) -> list[tuple[float, tuple[str, str]]]:
    """Return where the bars of a metric stand, and variant and metric of each."""
    return [
        (float(at), (str(variant), metric)) for at, variant in zip(centres, table["variant"], strict=True)
    ]


def _draw_bound(axes: Axes, table: pd.DataFrame, half: float) -> None:
    """Draw a line across each group, `half` to either side of its middle, with its number at the end."""
    metric, name, colour = BOUND
    groups = np.arange(len(table))
    axes.hlines(table[metric], groups - half, groups + half, colors=colour, linewidth=2, label=name)
    for group, value in enumerate(table[metric]):
        place = (group + half, value)
        axes.annotate(
            _label(value), place, (2, 0), textcoords="offset points", color=colour, fontsize=8, va="center"
        )


def _label(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.3f}"


def _tick(variant: str) -> str:
    return "\n".join([variant, *textwrap.wrap(stages_in_words().get(variant, ""), 22)])

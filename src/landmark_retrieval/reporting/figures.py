"""Figures of the ablation table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure
from numpy.typing import NDArray

SERIES = {
    "mAP_at_100": ("mAP@100", "#0072B2"),
    "mAP_at_100_public": ("mAP@100 public", "#56B4E9"),
    "mAP_at_100_private": ("mAP@100 private", "#009E73"),
    "R_at_10": ("recall@10", "#E69F00"),
}
"""Metrics that are drawn, with their names and colours (Okabe and Ito's, safe for colour-blind readers)."""


def plot_ablation(table: pd.DataFrame) -> Figure:
    """Return the ablation as grouped bars.

    Args:
        table: from `evaluation.ablation_table`; metrics that are missing everywhere are left out.
    """
    shown = _shown(table)
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(shown)
    for number, metric in enumerate(shown):
        name, colour = SERIES[metric]
        centres = [row + (number - (len(shown) - 1) / 2) * width for row in range(len(table))]
        bars = axes.bar(centres, table[metric], width * 0.94, label=name, color=colour)
        axes.bar_label(bars, fmt="%.3f", fontsize=8, padding=2)
    axes.set_xticks(range(len(table)), table["variant"])
    axes.set_ylim(0, 1.12)
    axes.set_ylabel("score")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=len(shown), loc="upper left")
    axes.set_title("Ablation: each variant adds one stage", loc="left")
    return figure


def plot_ablation_interactive(table: pd.DataFrame) -> go.Figure:
    """Return the same bars as a Plotly figure."""
    figure = go.Figure(
        [
            go.Bar(
                name=SERIES[metric][0],
                x=table["variant"],
                y=table[metric],
                marker_color=SERIES[metric][1],
                texttemplate="%{y:.3f}",
            )
            for metric in _shown(table)
        ]
    )
    figure.update_layout(
        title="Ablation: each variant adds one stage",
        barmode="group",
        yaxis={"range": [0, 1.05], "title": "score"},
        template="plotly_white",
    )
    return figure


def plot_average_precision(average_precision: NDArray[np.float64]) -> Figure:
    """Return the AP of every query of one variant as bars, best first.

    Args:
        average_precision: `[q]`; NaN (queries without relevant images) is left out.
    """
    values = np.sort(average_precision[~np.isnan(average_precision)])[::-1]
    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.fill_between(np.arange(len(values) + 1), np.append(values, 0), step="post", color="#0072B2")
    axes.set(xlim=(0, max(1, len(values))), ylim=(0, 1.02), xlabel="queries, best first", ylabel="AP@100")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _shown(table: pd.DataFrame) -> list[str]:
    return [metric for metric in SERIES if table[metric].notna().any()]

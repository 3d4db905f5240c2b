from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import plotly.io
import pytest
from matplotlib.figure import Figure

from landmark_retrieval.evaluation import ablation_table
from landmark_retrieval.reporting.figures import (
    POINT,
    plot_ablation,
    plot_ablation_interactive,
    plot_average_precision,
    plot_changes,
)
from variant_names import VARIANTS

METRICS = {"mAP_at_100": 0.5, "P_at_10": 0.25, "R_at_1": 1.0, "R_at_10": 0.75}
PARTS = {"mAP_at_100_public": 0.01, "mAP_at_100_private": 0.9}


def tables() -> list[pd.DataFrame]:
    return [
        ablation_table(dict.fromkeys(VARIANTS, METRICS), {}),
        ablation_table({name: {**METRICS, **PARTS} for name in VARIANTS}, {}),
        ablation_table({"blend": {**METRICS, **PARTS}, "gem": METRICS}, {}),
    ]


def drawn(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=50)
    return file.getvalue()


@pytest.mark.parametrize(("number", "bars"), [(0, 4), (1, 12), (2, 6)])
def test_bars(number: int, bars: int) -> None:
    figure = plot_ablation(tables()[number])
    (axes,) = figure.axes
    heights = [bar.get_height() for bar in axes.patches]
    assert len(heights) == bars and heights[0] == 0.5
    (bound,) = axes.collections
    assert {segment[0][1] for segment in bound.get_segments()} == {0.75}
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[0] == "mAP@100" and labels[-1] == "recall@10"
    assert "0.500" in [text.get_text() for text in axes.texts]
    assert drawn(figure).startswith(b"\x89PNG")


def test_intervals_are_drawn_where_no_number_stands() -> None:
    """One line a bar that has an interval; numbers stand at the foot of bars, or above what a low one has."""
    table = tables()[2]
    found = [("blend", "mAP_at_100", 0.4, 0.6), ("blend", "mAP_at_100_public", 0.0, 0.09)]
    intervals = pd.DataFrame(found, columns=["variant", "metric", "low", "high"])
    figure = plot_ablation(table, intervals)
    (axes,) = figure.axes
    drawn_lines = [segment for lines in axes.collections for segment in lines.get_segments()]
    upright = {(line[0][1], line[1][1]) for line in drawn_lines if line[0][0] == line[1][0]}
    assert upright == {(low, high) for _, _, low, high in found}
    texts = {text.get_text(): text.xy for text in axes.texts if text.xy[0] < 0.4}
    assert texts["0.500"][1] == 0
    assert texts["0.010"][1] == 0.09
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[-2:] == ["confidence interval", "recall@10"]


def test_figures_are_repeatable() -> None:
    assert drawn(plot_ablation(tables()[1])) == drawn(plot_ablation(tables()[1]))


@pytest.mark.parametrize(("number", "traces"), [(0, 2), (1, 4), (2, 4)])
def test_interactive_figure_survives_its_file(number: int, traces: int) -> None:
    figure = plot_ablation_interactive(tables()[number])
    again = plotly.io.from_json(plotly.io.to_json(figure))
    assert len(again.data) == traces
    assert [trace.type for trace in again.data] == ["bar"] * (traces - 1) + ["scatter"]
    assert again.data[0].y[0] == 0.5 and again.data[-1].y[0] == 0.75
    assert again.data[0].x[0] == "blend"
    json.loads(plotly.io.to_json(figure), parse_constant=pytest.fail)  # no NaN, which browsers refuse


def test_average_precision() -> None:
    figure = plot_average_precision(np.array([0.5, np.nan, 1.0]))
    assert figure.axes[0].get_xlim() == (0, 2)
    assert drawn(figure) and drawn(plot_average_precision(np.array([np.nan])))


def test_changes() -> None:
    values = np.array([0.1, 0.5, 0.5, np.nan])
    figure = plot_changes(
        {
            "blend": values,
            "blend_qe_sv": values + np.array([0.2, 0, -0.1, 0]),
            "blend_qe_sv_egt": values + np.array([0.3, 0, 0, 0]),
        }
    )
    first, second = figure.axes
    assert [text.get_text() for text in first.get_legend().get_texts()] == ["1 better", "1 worse", "1 equal"]
    assert [text.get_text() for text in second.get_legend().get_texts()] == ["2 better", "0 worse", "1 equal"]
    assert first.get_xlabel() == "AP@100 of blend" and first.get_title().startswith("blend_qe_sv\n")
    assert drawn(figure) and drawn(plot_changes({"blend": values}))


def test_queries_at_one_place_are_one_point_of_their_area() -> None:
    before = np.array([1.0, 1.0, 1.0, 0.5, 0.5 + 1e-12, 0.25, np.nan])
    (axes,) = plot_changes({"blend": before, "blend_qe_sv": np.maximum(before, 0.5)}).axes
    better, worse, equal = axes.collections
    assert better.get_offsets().tolist() == [[0.25, 0.5]] and worse.get_offsets().tolist() == []
    assert equal.get_offsets().tolist() == [[0.5, 0.5], [1, 1]]
    assert equal.get_sizes().tolist() == [2 * POINT, 3 * POINT] and better.get_sizes() == [POINT]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["1 better", "0 worse", "5 equal"]


def test_points_of_many_queries_leave_room_and_single_ones_stay_visible() -> None:
    before = np.append(np.ones(1000), [0.5] * 500 + [0.25])
    (axes,) = plot_changes({"blend": before, "blend_qe_sv": before}).axes
    assert axes.collections[2].get_sizes().tolist() == [9, 250, 500]


def test_legends_cover_no_point() -> None:
    values = np.linspace(0, 1, 11)
    figure = plot_changes({"blend": values, "blend_qe_sv": values[::-1]})
    drawn(figure)
    (axes,) = figure.axes
    assert axes.get_legend().get_window_extent().y1 < axes.get_window_extent().y0

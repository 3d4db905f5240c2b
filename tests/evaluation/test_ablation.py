from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest

from landmark_retrieval.evaluation import ablation_table, format_table, usage_intervals
from landmark_retrieval.evaluation.ablation import METRICS, TITLES, format_published
from variant_names import VARIANTS

METRICS_OF_ONE = {"mAP_at_100": 0.5, "P_at_10": 0.25, "R_at_1": 1, "R_at_10": 2 / 3, "mean_position": 4.0}


def test_columns_and_order() -> None:
    metrics = dict.fromkeys((*VARIANTS, "gem"), METRICS_OF_ONE)
    table = ablation_table(metrics, {"blend": 12.34})
    assert ",".join(table.columns) == (
        "variant,mAP_at_100,mAP_at_100_public,mAP_at_100_private,P_at_10,R_at_1,R_at_10,seconds"
    )
    assert table["variant"].tolist() == [*VARIANTS, "gem"]
    assert table["seconds"][0] == 12.3 and table["seconds"][1:].isna().all()
    assert table["mAP_at_100_public"].isna().all()


def test_titles_are_complete() -> None:
    assert tuple(TITLES) == METRICS


def test_text_is_aligned() -> None:
    table = ablation_table(
        {"blend": {**METRICS_OF_ONE, "mAP_at_100_public": 0.1}, VARIANTS[3]: METRICS_OF_ONE},
        {"blend": 1234.56, VARIANTS[3]: 3},
    )
    text = format_table(table, "demo", {"query": 8, "index": 31, "train": 8}, skipped=2)
    title, blank, *lines, blank_too, last = text.split("\n")
    assert title == "data set demo: 8 queries, 31 index images, 8 train images"
    assert blank == blank_too == ""
    assert last.startswith("2 images were skipped")
    assert len(lines) == 4 and {len(line) for line in lines} == {len(lines[0])}
    header, rule, blend, semisup = lines
    assert header.split() == list(table.columns) and set(rule) == {"-"}
    assert blend.split() == ["blend", "0.5000", "0.1000", "-", "0.2500", "1.0000", "0.6667", "1234.6"]
    assert semisup.split()[2:4] == ["-", "-"] and semisup.split()[-1] == "3.0"
    for name in ("mAP_at_100", "seconds"):
        assert header[: header.index(name) + len(name)].rstrip() != ""
        assert blend[header.index(name) + len(name) - 1] != " "


def test_text_of_a_table_read_from_a_file() -> None:
    table = ablation_table({"blend": METRICS_OF_ONE}, {"blend": 1})
    again = pd.read_csv(io.StringIO(table.to_csv(index=False)))
    assert format_table(again) == format_table(table)
    assert format_table(table).startswith("variant")


@pytest.mark.parametrize(
    ("skipped", "line"),
    [
        (0, "No image was skipped."),
        (1, "1 image was skipped as unreadable and counts as not found; the report names it."),
        (3, "3 images were skipped as unreadable and count as not found; the report names them."),
    ],
)
def test_skipped(skipped: int, line: str) -> None:
    table = ablation_table({"blend": METRICS_OF_ONE}, {})
    assert format_table(table, skipped=skipped).split("\n")[-1] == line


def test_text_without_usage_has_no_columns_of_it() -> None:
    text = format_table(ablation_table({"blend": METRICS_OF_ONE}, {"blend": 1}))
    header, _, blend = text.split("\n")
    assert header.split() == ["variant", "mAP_at_100", "P_at_10", "R_at_1", "R_at_10", "seconds"]
    assert blend.split() == ["blend", "0.5000", "0.2500", "1.0000", "0.6667", "1.0"]


def test_intervals_stand_below_the_table() -> None:
    scores = {"blend": np.array([0.5, 0.5]), VARIANTS[1]: np.array([0.75, 0.75])}
    table = ablation_table(dict.fromkeys(scores, METRICS_OF_ONE), {})
    text = format_table(table, intervals=usage_intervals(scores))
    assert text.startswith(format_table(table))
    below = text[len(format_table(table)) :].split("\n")
    assert "95% intervals over queries (bootstrap)" in below
    assert below[-2].split() == ["blend", "mAP_at_100", "0.5000", "to", "0.5000", "-", "-"]
    assert below[-1].split()[2:] == ["0.7500", "to", "0.7500", "+0.2500", "+0.2500", "to", "+0.2500"]


def test_published_figures_are_told_from_measured_ones() -> None:
    text = format_published([("theirs", None, 0.203), ("later", 0.2992, 0.321)], "A paper.")
    header, _, theirs, later, _, source = text.split("\n")
    assert header.startswith("published, not measured here") and source == "A paper."
    assert theirs.split() == ["theirs", "-", "0.2030"] and later.split() == ["later", "0.2992", "0.3210"]

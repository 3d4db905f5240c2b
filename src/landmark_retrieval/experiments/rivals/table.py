"""Rivals and the variants of a run in one table, with the gain of graph traversal over each of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from landmark_retrieval.collection.rows import SplitRows, has_truth, relevant_index_rows
from landmark_retrieval.configuration import Configuration
from landmark_retrieval.evaluation.bootstrap import BootstrapConfig, difference_interval
from landmark_retrieval.evaluation.gld import average_precision, evaluate_variant
from landmark_retrieval.evaluation.protocols import complete_ranking, revisited_truth
from landmark_retrieval.evaluation.revisited import evaluate_revisited, score_revisited
from landmark_retrieval.experiments.rivals.config import RivalConfig
from landmark_retrieval.experiments.rivals.rank import rank_by, without_own
from landmark_retrieval.knn import KnnConfig, KnnGraph

MEASURED = {
    "plain": ("mAP_at_100", "P_at_10", "R_at_1", "R_at_10"),
    "revisited": tuple(
        f"{metric}_{protocol}" for metric in ("mAP", "mP_at_10") for protocol in ("easy", "medium", "hard")
    ),
}
"""Metrics of the table: of data sets as the challenge measures them, and of the revisited protocol."""

GAIN = ("egt_gain", "egt_gain_low", "egt_gain_high")
"""Columns of the paired comparison: graph traversal minus the row, with its interval over queries."""


class RivalsConfig(Configuration):
    """Which rivals are measured.

    Attributes:
        methods: by the name of the row.
        reference: variant of the run that each row is compared with.
    """

    methods: dict[str, RivalConfig] = Field(min_length=1)
    reference: str = "blend_qe_sv_egt"


def measure_rivals(
    images: pd.DataFrame,
    descriptors: NDArray[np.floating[Any]],
    graph: KnnGraph,
    rankings: Mapping[str, NDArray[np.int32]],
    config: RivalsConfig,
    knn: KnnConfig,
    intervals: BootstrapConfig | None = None,
) -> pd.DataFrame:
    """Rank by every rival and measure all rows alike.

    Args:
        images: the prepared table.
        descriptors: `[rows, d]` for every row of the table, of unit length; all rivals start from them.
        graph: the exact neighbours of its queries and index images.
        rankings: int32 `[q, length]` of the run's own variants, the first rows of the table.
        config: the rivals.
        knn: how expanded descriptors are searched.
        intervals: of the paired bootstrap over queries.

    Returns:
        One row a variant, then one a rival: `variant`, the metrics of `MEASURED`, `GAIN` (of mAP@100, or of
        medium mAP by the revisited protocol) and `seconds` of the ranking (NaN for the variants).
    """
    rows, truth = SplitRows.from_table(images), revisited_truth(images)
    queries, index = descriptors[rows.asked], descriptors[rows.index]
    graph = KnnGraph(graph.asked, graph.index)
    length = next(iter(rankings.values())).shape[1]
    found, seconds = dict(rankings), dict.fromkeys(rankings, float("nan"))
    for name, rival in config.methods.items():
        start = time.perf_counter()
        found[name] = without_own(rank_by(rival, queries, index, graph, knn, length + 1), rows.own)
        seconds[name] = time.perf_counter() - start
    scores: dict[str, NDArray[np.float64]] = {}
    table: list[dict[str, Any]] = []
    for name, ranking in found.items():
        if not has_truth(images):
            metrics = {}
        elif truth is None:
            relevant = relevant_index_rows(images)
            metrics = evaluate_variant(ranking, relevant, None)
            scores[name] = average_precision(ranking, relevant)
        else:
            completed = complete_ranking(ranking, queries, index)
            metrics = evaluate_revisited(completed, truth)
            scores[name] = score_revisited(completed, truth, "medium")["AP"].to_numpy()
        names = MEASURED["plain" if truth is None else "revisited"]
        table.append({"variant": name, **{metric: metrics[metric] for metric in names if metric in metrics}})
    for row in table:
        name = row["variant"]
        if name != config.reference and config.reference in scores:
            gain = difference_interval(scores[config.reference], scores[name], intervals)
            row |= dict(zip(GAIN, (gain.mean, gain.low, gain.high), strict=True))
        row["seconds"] = seconds[name]
    return pd.DataFrame(table)


def format_rivals(table: pd.DataFrame, data_set: str, reference: str) -> str:
    """Return the table as text of fixed width, mAP and the like in percent.

    Args:
        table: from `measure_rivals`.
        data_set: name for the line above.
        reference: variant that the rows are compared with.
    """
    metrics = [str(name) for name in table if name not in ("variant", "seconds", *GAIN)]
    cells = [["variant", *metrics, "gain of EGT over it", "s"]]
    for row in table.to_dict("records"):
        gain = "-"
        if pd.notna(row.get(GAIN[0], np.nan)):
            gain = "{:+.2f} [{:+.2f}, {:+.2f}]".format(*(100 * row[name] for name in GAIN))
        seconds = "-" if pd.isna(row["seconds"]) else f"{row['seconds']:.1f}"
        values = ("-" if pd.isna(row[name]) else f"{100 * row[name]:.2f}" for name in metrics)
        cells.append([row["variant"], *values, gain, seconds])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]
    lines.insert(1, "-" * max(map(len, lines)))
    above = f"{reference} and other re-rankers on data set {data_set}, in percent; gains by paired bootstrap"
    return "\n".join([above, "", *lines, ""])

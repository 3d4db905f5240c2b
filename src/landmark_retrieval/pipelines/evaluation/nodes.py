"""Nodes of the evaluation pipeline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import BaseModel

from landmark_retrieval import evaluation, reporting
from landmark_retrieval.data_sets import SplitRows, relevant_index_rows
from landmark_retrieval.evaluation import VARIANTS, Ranking, ablation_table, evaluate_variant
from landmark_retrieval.evaluation.gld import average_precision, relevance
from landmark_retrieval.graph import Traversal, trusted_path
from landmark_retrieval.graph.kernel import LABEL_EDGE
from landmark_retrieval.reporting import GalleryConfig, VariantRun, render_gallery
from landmark_retrieval.reporting.gallery import QueryPage, Step, VariantResults, choose_queries, thumbnails


def evaluate(ranking: Ranking, images: pd.DataFrame) -> dict[str, float]:
    """Measure the ranking of one variant."""
    return evaluate_variant(ranking.rows, relevant_index_rows(images), _query_usage(images))


def make_submission(ranking: Ranking, images: pd.DataFrame) -> pd.DataFrame:
    """Write the ranking as the challenge wants it."""
    ids, rows = images["image_id"].to_numpy(dtype=str), SplitRows.from_table(images)
    return evaluation.make_submission(ranking.rows, ids[rows.query], ids[rows.index])


def make_ablation_table(stage_seconds: dict[str, Any], *metrics: dict[str, float]) -> pd.DataFrame:
    """Put the metrics of all variants side by side."""
    return ablation_table(dict(zip(VARIANTS, metrics, strict=True)), stage_seconds["variants"])


def plot_ablation(ablation: pd.DataFrame) -> Figure:
    """Draw the ablation as bars."""
    return reporting.plot_ablation(ablation)


def plot_ablation_interactive(ablation: pd.DataFrame) -> go.Figure:
    """Draw the ablation as interactive bars."""
    return reporting.plot_ablation_interactive(ablation)


def describe_run(variant: str) -> Callable[..., VariantRun]:
    """Return the node function that gathers what MLflow keeps of a variant."""

    def gather_run(
        ranking: Ranking,
        images: pd.DataFrame,
        metrics: dict[str, float],
        submission: pd.DataFrame,
        stage_seconds: dict[str, Any],
        parameters: dict[str, Any],
    ) -> VariantRun:
        seconds = stage_seconds["variants"].get(variant, float("nan"))
        plain = {
            name: value.model_dump(mode="json") if isinstance(value, BaseModel) else value
            for name, value in parameters.items()
        }
        figure = reporting.plot_average_precision(
            average_precision(ranking.rows, relevant_index_rows(images))
        )
        return VariantRun(
            name=variant,
            parameters={"variant": variant, **plain},
            metrics={**metrics, "seconds": seconds},
            tags={"variant": variant, "variant_number": str(VARIANTS.index(variant) + 1)},
            tables={"submission.csv": submission},
            figures={"average_precision.png": figure},
        )

    return gather_run


def make_gallery(
    images: pd.DataFrame,
    skipped: pd.DataFrame,
    ablation: pd.DataFrame,
    plain: Traversal,
    bridged: Traversal,
    config: GalleryConfig,
    blend: Ranking,
    blend_qe_sv: Ranking,
    blend_qe_sv_egt: Ranking,
    blend_qe_sv_semisup_egt: Ranking,
) -> str:
    """Show what the variants found for the queries on which they differ most, and why."""
    rankings = (blend, blend_qe_sv, blend_qe_sv_egt, blend_qe_sv_semisup_egt)
    rows, relevant = SplitRows.from_table(images), relevant_index_rows(images)
    first = rows.index.start
    precisions = np.stack([average_precision(ranking.rows, relevant) for ranking in rankings])
    hits = [relevance(ranking.rows, relevant) for ranking in rankings]
    pages = []
    for query in choose_queries(precisions, config.queries):
        shown = []
        for number, variant in enumerate(VARIANTS):
            results = rankings[number].rows[query, : config.results]
            correct = hits[number][query, : config.results]
            found = results >= 0
            shown.append(
                VariantResults(
                    variant,
                    float(precisions[number, query]),
                    [int(row) + first for row in results[found]],
                    [bool(hit) for hit in correct[found]],
                )
            )
        paths = _longest_paths(
            bridged if rows.train.stop > rows.train.start else plain, int(query), config, first
        )
        pages.append(QueryPage(int(query), shown, paths))
    used = {page.row for page in pages}
    used |= {row for page in pages for variant in page.variants for row in variant.rows}
    used |= {step.row for page in pages for path in page.paths for step in path}
    pictures = thumbnails({row: str(images["path"].iloc[row]) for row in sorted(used)}, config.thumbnail_side)
    counts = images["split"].value_counts()
    return render_gallery(
        pages,
        pictures,
        images["image_id"].to_list(),
        ablation,
        skipped,
        {split: int(counts.get(split, 0)) for split in ("query", "index", "train")},
    )


def _longest_paths(
    traversal: Traversal, query: int, config: GalleryConfig, first_index_row: int
) -> list[list[Step]]:
    """Return the longest trusted paths among the shown results, long ones first."""
    found = int((traversal.ranking[query, : config.results] >= 0).sum())
    paths = [trusted_path(traversal, query, position) for position in range(found)]
    paths.sort(key=len, reverse=True)
    return [
        [Step(step.target + first_index_row, step.kind == LABEL_EDGE, step.weight) for step in path]
        for path in paths[: config.paths]
    ]


def _query_usage(images: pd.DataFrame) -> NDArray[Any] | None:
    usage = images["usage"].iloc[SplitRows.from_table(images).query]
    return None if usage.isna().all() else usage.fillna("").to_numpy(dtype=str)

"""Nodes of the evaluation pipeline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pydantic import BaseModel

from landmark_retrieval import evaluation, reporting
from landmark_retrieval.data_sets import DataSetConfig, SplitRows, relevant_index_rows, split_counts
from landmark_retrieval.descriptors import Descriptors
from landmark_retrieval.evaluation import (
    VARIANTS,
    Ranking,
    ablation_table,
    average_precision,
    evaluate_variant,
    format_table,
    intervals_table,
)
from landmark_retrieval.evaluation.protocols import evaluate_protocol
from landmark_retrieval.graph import LabelBridge, Traversal
from landmark_retrieval.reporting import (
    Findings,
    GalleryConfig,
    VariantRun,
    change_counts,
    precisions,
    query_pages,
    render_gallery,
    shown_images,
    thumbnails,
)


def evaluate(ranking: Ranking, images: pd.DataFrame, descriptors: Descriptors) -> dict[str, float]:
    """Measure the ranking of one variant, also by the data set's own protocol where it has one."""
    metrics = evaluate_variant(ranking.rows, relevant_index_rows(images), _query_usage(images))
    everything = slice(0, len(images))
    return {**metrics, **evaluate_protocol(ranking.rows, images, descriptors.part(everything))}


def make_submission(ranking: Ranking, images: pd.DataFrame) -> pd.DataFrame:
    """Write the ranking as the challenge wants it."""
    ids, rows = images["image_id"].to_numpy(dtype=str), SplitRows.from_table(images)
    return evaluation.make_submission(ranking.rows, ids[rows.query], ids[rows.index])


def make_ablation_table(stage_seconds: dict[str, Any], *metrics: dict[str, float]) -> pd.DataFrame:
    """Put the metrics of all variants side by side."""
    return ablation_table(dict(zip(VARIANTS, metrics, strict=True)), stage_seconds["variants"])


def write_ablation(
    ablation: pd.DataFrame, images: pd.DataFrame, skipped: pd.DataFrame, data_set: DataSetConfig
) -> str:
    """Write the table as text, for terminals."""
    return format_table(ablation, data_set.name, split_counts(images), len(skipped)) + "\n"


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
        egt_options: dict[str, Any],
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
            parameters={"variant": variant, **plain, **egt_options},
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
    pairs: pd.DataFrame,
    bridge: LabelBridge,
    plain: Traversal,
    bridged: Traversal,
    data_set: DataSetConfig,
    config: GalleryConfig,
    *rankings: Ranking,
) -> str:
    """Show what the variants found for the queries on which they differ most, and why."""
    findings = Findings(
        rankings={name: ranking.rows for name, ranking in zip(VARIANTS, rankings, strict=True)},
        traversals={"blend_qe_sv_egt": plain, "blend_qe_sv_semisup_egt": bridged},
        pairs=pairs,
        label_bridge=bridge,
    )
    pages = query_pages(findings, images, config)
    scores = precisions(findings, images)
    return render_gallery(
        pages,
        thumbnails(shown_images(pages, images), config.thumbnail_side),
        images["image_id"].to_list(),
        ablation,
        skipped,
        split_counts(images),
        data_set=data_set.name,
        intervals=intervals_table(dict(zip(VARIANTS, scores, strict=True))),
        changes=change_counts(scores),
        max_mib=config.max_mib,
    )


def _query_usage(images: pd.DataFrame) -> NDArray[Any] | None:
    usage = images["usage"].iloc[SplitRows.from_table(images).query]
    return None if usage.isna().all() else usage.fillna("").to_numpy(dtype=str)

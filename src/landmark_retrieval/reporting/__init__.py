"""Reporting: figures, the report, and what MLflow keeps of a variant."""

from landmark_retrieval.reporting.figures import (
    as_png,
    plot_ablation,
    plot_ablation_interactive,
    plot_average_precision,
    plot_changes,
    plot_sweep,
)
from landmark_retrieval.reporting.matches import VerifiedMatch, choose_pairs, verified_matches
from landmark_retrieval.reporting.pages import Findings, precisions, query_pages, shown_images
from landmark_retrieval.reporting.report import ReportConfig, change_counts, extremes, render_report
from landmark_retrieval.reporting.thumbnails import thumbnails
from landmark_retrieval.reporting.variant_run import VariantRun

__all__ = [
    "Findings",
    "ReportConfig",
    "VariantRun",
    "VerifiedMatch",
    "as_png",
    "change_counts",
    "choose_pairs",
    "extremes",
    "plot_ablation",
    "plot_ablation_interactive",
    "plot_average_precision",
    "plot_changes",
    "plot_sweep",
    "precisions",
    "query_pages",
    "render_report",
    "shown_images",
    "thumbnails",
    "verified_matches",
]

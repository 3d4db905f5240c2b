"""Reporting: figures, the gallery, and what MLflow keeps of a variant."""

from landmark_retrieval.reporting.figures import (
    plot_ablation,
    plot_ablation_interactive,
    plot_average_precision,
    plot_changes,
    plot_sweep,
)
from landmark_retrieval.reporting.gallery import GalleryConfig, change_counts, render_gallery
from landmark_retrieval.reporting.pages import Findings, precisions, query_pages, shown_images
from landmark_retrieval.reporting.thumbnails import thumbnails
from landmark_retrieval.reporting.variant_run import VariantRun

__all__ = [
    "Findings",
    "GalleryConfig",
    "VariantRun",
    "change_counts",
    "plot_ablation",
    "plot_ablation_interactive",
    "plot_average_precision",
    "plot_changes",
    "plot_sweep",
    "precisions",
    "query_pages",
    "render_gallery",
    "shown_images",
    "thumbnails",
]

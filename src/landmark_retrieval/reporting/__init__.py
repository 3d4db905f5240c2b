"""Reporting: figures, the gallery, and what MLflow keeps of a variant."""

from landmark_retrieval.reporting.figures import (
    plot_ablation,
    plot_ablation_interactive,
    plot_average_precision,
)
from landmark_retrieval.reporting.gallery import GalleryConfig, render_gallery
from landmark_retrieval.reporting.variant_run import VariantRun

__all__ = [
    "GalleryConfig",
    "VariantRun",
    "plot_ablation",
    "plot_ablation_interactive",
    "plot_average_precision",
    "render_gallery",
]

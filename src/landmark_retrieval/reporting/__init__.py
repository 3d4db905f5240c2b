"""Reporting: the report, and what MLflow keeps of a variant.

Figures are in `reporting.figures`, which not everyone who shows a picture needs to load.
"""

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
    "change_counts",
    "choose_pairs",
    "extremes",
    "precisions",
    "query_pages",
    "render_report",
    "shown_images",
    "thumbnails",
    "verified_matches",
]

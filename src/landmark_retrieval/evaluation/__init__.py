"""Evaluation: metrics of the challenges, the ablation table, confidence intervals, submission files."""

from landmark_retrieval.evaluation.ablation import (
    METRICS,
    ablation_table,
    format_published,
    format_table,
)
from landmark_retrieval.evaluation.bootstrap import (
    BootstrapConfig,
    Interval,
    difference_interval,
    interval_metrics,
    intervals_table,
    mean_interval,
    no_intervals,
    usage_intervals,
)
from landmark_retrieval.evaluation.gld import average_precision, evaluate_variant, score_queries, summarise
from landmark_retrieval.evaluation.id_metrics import score_submission
from landmark_retrieval.evaluation.published import PublishedConfig
from landmark_retrieval.evaluation.ranking import Ranking, RankingConfig
from landmark_retrieval.evaluation.revisited import RevisitedTruth, evaluate_revisited
from landmark_retrieval.evaluation.submission import (
    make_solution,
    make_submission,
    read_solution,
    read_submission,
    read_truth,
)

__all__ = [
    "METRICS",
    "BootstrapConfig",
    "Interval",
    "PublishedConfig",
    "Ranking",
    "RankingConfig",
    "RevisitedTruth",
    "ablation_table",
    "average_precision",
    "difference_interval",
    "evaluate_revisited",
    "evaluate_variant",
    "format_published",
    "format_table",
    "interval_metrics",
    "intervals_table",
    "make_solution",
    "make_submission",
    "mean_interval",
    "no_intervals",
    "read_solution",
    "read_submission",
    "read_truth",
    "score_queries",
    "score_submission",
    "summarise",
    "usage_intervals",
]

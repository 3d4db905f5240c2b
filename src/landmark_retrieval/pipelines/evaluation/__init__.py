"""Evaluation: metrics, submissions, the ablation table, figures, report and MLflow runs."""

from landmark_retrieval.pipelines.evaluation.pipeline import create_pipeline

__all__ = ["create_pipeline"]

"""Rivals: re-rankers of the literature, measured beside graph traversal from stored artifacts."""

from landmark_retrieval.pipelines.rivals.pipeline import create_pipeline

__all__ = ["create_pipeline"]

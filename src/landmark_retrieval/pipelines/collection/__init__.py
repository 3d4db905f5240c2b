"""Verified pairs -> groups of one place, near-duplicates, doubtful labels -> the page of a collection."""

from landmark_retrieval.pipelines.collection.pipeline import create_pipeline

__all__ = ["create_pipeline"]

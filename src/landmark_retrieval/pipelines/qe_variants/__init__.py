"""Variants of query expansion, measured side by side from stored artifacts."""

from landmark_retrieval.pipelines.qe_variants.pipeline import create_pipeline

__all__ = ["create_pipeline"]

"""Features: one image table, two global descriptors blended into one, and local features."""

from landmark_retrieval.pipelines.features.pipeline import create_pipeline

__all__ = ["create_pipeline"]

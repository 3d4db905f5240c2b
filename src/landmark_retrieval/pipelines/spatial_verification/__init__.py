"""Spatial verification: RANSAC on local features decides which neighbours expand the descriptors."""

from landmark_retrieval.pipelines.spatial_verification.pipeline import create_pipeline

__all__ = ["create_pipeline"]

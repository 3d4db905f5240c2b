"""Query expansion without local features: the nearest images, which nobody verified, expand a descriptor."""

from landmark_retrieval.pipelines.nearest_expansion.pipeline import create_pipeline

__all__ = ["create_pipeline"]

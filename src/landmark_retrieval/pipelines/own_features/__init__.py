"""Own features: descriptors that were made elsewhere take the place of those that `features` extracts."""

from landmark_retrieval.pipelines.own_features.pipeline import create_pipeline

__all__ = ["create_pipeline"]

"""Training of DELF's attention head on the train split."""

from landmark_retrieval.pipelines.attention_training.pipeline import create_pipeline

__all__ = ["create_pipeline"]

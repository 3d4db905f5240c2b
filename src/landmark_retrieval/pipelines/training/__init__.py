"""Fine-tuning of the global descriptors on the train split."""

from landmark_retrieval.pipelines.training.pipeline import create_pipeline

__all__ = ["create_pipeline"]

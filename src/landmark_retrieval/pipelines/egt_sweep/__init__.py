"""Choice of EGT's and the label bridge's options on held-out train images."""

from landmark_retrieval.pipelines.egt_sweep.pipeline import create_pipeline

__all__ = ["create_pipeline"]

"""Labelled train images -> attention head of DELF, for `local_features.extractor.attention`."""

from __future__ import annotations

import pandas as pd
from kedro.pipeline import Node, Pipeline

from landmark_retrieval.local_features import LocalFeaturesConfig
from landmark_retrieval.training import AttentionPlan, AttentionTrainingConfig, plan_attention_training


def create_pipeline(**_: object) -> Pipeline:
    """Return the attention_training pipeline."""
    return Pipeline(
        [
            Node(
                train_attention,
                inputs=["image_table", "params:local_features", "params:attention_training"],
                outputs="delf_attention",
                name="train_attention",
                namespace="local",
            )
        ]
    )


def train_attention(
    images: pd.DataFrame, features: LocalFeaturesConfig, config: AttentionTrainingConfig
) -> AttentionPlan:
    """Plan the training of the attention head on labelled train images."""
    return plan_attention_training(images, features, config)

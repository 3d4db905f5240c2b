"""Nodes of the training pipeline."""

from __future__ import annotations

import pandas as pd

from landmark_retrieval.descriptors import GlobalDescriptorConfig, Whitening
from landmark_retrieval.training import TrainingConfig, TrainingPlan, plan_training


def train_descriptor(
    images: pd.DataFrame,
    region_whitening: Whitening,
    descriptor: GlobalDescriptorConfig,
    config: TrainingConfig,
) -> TrainingPlan:
    """Plan the fine-tuning of a descriptor on labelled train images, from its learned whitening layer on."""
    return plan_training(images, descriptor, region_whitening, config)

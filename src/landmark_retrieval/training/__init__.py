"""Fine-tuning of global descriptors and of DELF's attention on labelled landmarks."""

from landmark_retrieval.training.attention import (
    AttentionPlan,
    AttentionTrainingConfig,
    plan_attention_training,
)
from landmark_retrieval.training.config import TrainingConfig
from landmark_retrieval.training.loop import TrainingPlan, plan_training

__all__ = [
    "AttentionPlan",
    "AttentionTrainingConfig",
    "TrainingConfig",
    "TrainingPlan",
    "plan_attention_training",
    "plan_training",
]

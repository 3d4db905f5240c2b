"""Losses on a batch of descriptors, from pytorch-metric-learning."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn

from landmark_retrieval.training.config import ARCFACE_SCALE, TrainingConfig


class BatchLoss(nn.Module):
    """The loss that a configuration names; `arcface` has a learned centre for each landmark.

    Args:
        config: which loss, and its margin.
        landmarks: number of landmarks.
        width: length of the descriptors.
    """

    def __init__(self, config: TrainingConfig, landmarks: int, width: int) -> None:
        from pytorch_metric_learning import distances, losses, miners  # takes seconds

        super().__init__()
        self.miner: Any = None
        self.loss: Any
        if config.loss == "contrastive":
            # Distances between unit vectors, positives pulled to 0 (Radenović et al., eq. 4).
            self.loss = losses.ContrastiveLoss(
                pos_margin=0, neg_margin=config.margin, distance=distances.LpDistance()
            )
        elif config.loss == "triplet":
            self.loss = losses.TripletMarginLoss(margin=config.margin, distance=distances.LpDistance(power=2))
            self.miner = miners.TripletMarginMiner(
                margin=config.margin, type_of_triplets="all", distance=distances.LpDistance(power=2)
            )
        else:
            self.loss = losses.ArcFaceLoss(
                num_classes=landmarks,
                embedding_size=width,
                margin=math.degrees(config.margin),
                scale=ARCFACE_SCALE,
            )

    def forward(self, descriptors: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of descriptors `[b, d]` of landmarks `[b]`."""
        mined = None if self.miner is None else self.miner(descriptors, labels)
        value: Tensor = self.loss(descriptors, labels, mined)
        return value

"""Parameters of the fine-tuning of global descriptors."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from landmark_retrieval.configuration import Configuration, Seed

HEAD_FACTOR = 10.0
"""How many times the learning rate of pooling, whitening layer and the classes of `arcface` is larger."""

WARMUP_EPOCHS = 1.0
"""Epochs in which the learning rate rises."""

WEIGHT_DECAY = 1e-4
"""Of AdamW."""

ARCFACE_SCALE = 30.0
"""The factor s of `arcface`."""

MINING_POOL = 20_000
"""Images at most among which the landmarks that look most alike are sought."""

CHECKPOINT_STEPS = 200
"""Steps between checkpoints, what is lost at most by a kill."""

LOADER_THREADS = 2
"""Threads that read images."""


class TrainingConfig(Configuration):
    """How a global descriptor is fine-tuned on the train split.

    Attributes:
        loss: `contrastive` with hard negatives (Radenović et al., 2018), `triplet` (Gordo et al., 2017) or
            `arcface` (Deng et al., 2019), the choice of the later winners of the challenge.
        epochs: most epochs; each shows every image about once, every landmark equally often.
        landmarks_per_batch: landmarks in a batch.
        images_per_landmark: images of each, drawn anew each time.
        learning_rate: largest learning rate of the network's own layers (AdamW, cosine schedule).
        frozen: share of the network's parameters, counted from the input, that stay as they are. Batch
            normalisation keeps its statistics everywhere: batches are small.
        margin: `contrastive`: distance between images of different landmarks that costs nothing;
            `triplet`: by how much the negative must be farther; `arcface`: angle in radians.
        max_side: long side of the views in pixels.
        held_out: share of each landmark's train images that are kept out and on whose retrieval
            training stops early; 0 trains on all of them to the end.
        patience: epochs without a better mAP on the held-out images after which training stops.
        seed: seed of all random choices.
        register_as: name of a model in MLflow's registry that gets the result as a new version; None
            registers nothing.
    """

    loss: Literal["contrastive", "triplet", "arcface"] = "arcface"
    epochs: int = Field(default=60, ge=1, le=100_000)
    landmarks_per_batch: int = Field(default=4, ge=2, le=10_000)
    images_per_landmark: int = Field(default=4, ge=2, le=10_000)
    learning_rate: float = Field(default=1e-4, gt=0, le=10)
    frozen: float = Field(default=0.3, ge=0, le=1)
    margin: float = Field(default=0.3, gt=0, le=4)
    max_side: int = Field(default=320, ge=64, le=16_384)
    held_out: float = Field(default=0.25, ge=0, lt=0.8)
    patience: int = Field(default=12, ge=1, le=100_000)
    seed: Seed = 0
    register_as: str | None = None

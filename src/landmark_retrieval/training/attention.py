"""Training of DELF's attention head on frozen features.

Noh et al.: "Large-Scale Image Retrieval with Attentive Deep Local Features", 2017, section 4.2: the features
of an image, weighted by the head's scores and added up, must tell its landmark through a linear classifier.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from landmark_retrieval.configuration import Configuration, Seed, digest
from landmark_retrieval.descriptors.backbones import build_backbone, weights_identity
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.images import (
    Source,
    UnreadableImageError,
    load_image,
    resize_long_side,
    source_contents,
)
from landmark_retrieval.local_features.attention import HIDDEN, AttentionHead
from landmark_retrieval.local_features.config import DelfConfig, LocalFeaturesConfig
from landmark_retrieval.local_features.delf import STRIDE, tiled_size
from landmark_retrieval.local_features.tensors import to_tensor
from landmark_retrieval.runtime.devices import choose_device
from landmark_retrieval.training.checkpoints import CHECKPOINT, read_checkpoint, write_checkpoint
from landmark_retrieval.training.labels import labelled_train_images
from landmark_retrieval.training.loop import Log

logger = logging.getLogger(__name__)

VERSION = 1


class AttentionTrainingConfig(Configuration):
    """How the attention head is trained.

    Attributes:
        epochs: each shows every image once.
        images_per_step: images whose gradients make one step.
        learning_rate: learning rate of Adam.
        hidden: channels between the head's convolutions (the paper: 512).
        smallest_scale: images are shrunk at random down to this factor of `local_features.max_side`, as the
            paper crops and rescales them at random.
        seed: seed of all random choices.
    """

    epochs: int = Field(default=10, ge=1, le=100_000)
    images_per_step: int = Field(default=8, ge=1, le=1_000_000)
    learning_rate: float = Field(default=1e-3, gt=0, le=10)
    hidden: int = Field(default=HIDDEN, ge=1, le=65_536)
    smallest_scale: float = Field(default=0.5, ge=0.05, le=1)
    seed: Seed = 0


@dataclass(frozen=True)
class AttentionPlan:
    """A training that is still to be done; `run` goes on from the checkpoint in a folder where there is one.

    Attributes:
        sources: labelled train images.
        labels: int64 `[n]`, 0 to l - 1.
        features: extractor (DELF) and size of images.
        config: how the head is trained.
    """

    sources: list[Source]
    labels: NDArray[np.int64]
    features: LocalFeaturesConfig
    config: AttentionTrainingConfig

    @property
    def extractor(self) -> DelfConfig:
        """The DELF extractor whose head is trained."""
        assert isinstance(self.features.extractor, DelfConfig)
        return self.features.extractor

    def fingerprint(self) -> str:
        """Return a digest of all that the result depends on; the photos are read for it once."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        return digest(
            VERSION,
            self.config.model_dump(mode="json"),
            self.features.max_side,
            weights_identity(self.extractor.backbone),
            source_contents(self.sources),
            self.labels.tolist(),
        )

    def run(self, folder: str | Path, log: Log | None = None) -> AttentionHead:
        """Train, and return the head.

        Args:
            folder: folder of the checkpoint, written after each epoch.
            log: takes `loss` and `accuracy` on the views of an epoch, and its number.
        """
        config, device = self.config, choose_device()
        backbone = build_backbone(self.extractor.backbone).eval().to(device)
        backbone.requires_grad_(False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            head = AttentionHead(backbone.channels, config.hidden)
            classifier = nn.Linear(backbone.channels, int(self.labels.max()) + 1)
        model = nn.ModuleDict({"head": head, "classifier": classifier}).to(device)
        optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
        file = Path(folder) / CHECKPOINT
        stored = read_checkpoint(file, self.fingerprint())
        first = 0
        if stored is not None:
            model.load_state_dict(stored["model"])
            optimizer.load_state_dict(stored["optimizer"])
            first = stored["epoch"]
        mean = torch.tensor(backbone.mean, device=device).view(1, 3, 1, 1)
        std = torch.tensor(backbone.std, device=device).view(1, 3, 1, 1)
        for epoch in range(first, config.epochs):
            random = np.random.default_rng((config.seed, epoch))
            losses, right = [], 0
            order = random.permutation(len(self.labels))
            for place, row in enumerate(
                tqdm(order.tolist(), desc=f"attention, epoch {epoch + 1}", unit="image")
            ):
                view = self._view(self.sources[row], random)
                with torch.inference_mode():
                    features = backbone((to_tensor(view, device) - mean) / std)
                logits = classifier(attended(features.clone(), head))
                loss = functional.cross_entropy(logits, torch.tensor([self.labels[row]], device=device))
                (loss / config.images_per_step).backward()  # type: ignore[no-untyped-call]
                losses.append(float(loss.detach()))
                right += int(logits.argmax() == self.labels[row])
                if (place + 1) % config.images_per_step == 0 or place + 1 == len(order):
                    optimizer.step()
                    optimizer.zero_grad(set_to_none=True)
            metrics = {"loss": float(np.mean(losses)), "accuracy": right / len(order)}
            logger.info("attention, epoch %d: loss %.3f, accuracy %.3f", epoch + 1, *metrics.values())
            if log is not None:
                log(metrics, epoch + 1)
            write_checkpoint(
                file,
                self.fingerprint(),
                {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch + 1},
            )
        return head.cpu().eval()

    def _view(self, source: Source, random: np.random.Generator) -> Image.Image:
        scale = random.uniform(self.config.smallest_scale, 1.0)
        try:
            image = resize_long_side(load_image(source), round(self.features.max_side * scale))
        except UnreadableImageError:
            image = Image.new("RGB", (4 * STRIDE, 4 * STRIDE), "grey")
        return image.resize(tiled_size(image.size), Image.Resampling.BICUBIC)


def attended(features: Tensor, head: AttentionHead) -> Tensor:
    """Return the mean of unit features `[1, c, h, w]` weighted by their scores, `[1, c]`."""
    weighted: Tensor = (head(features) * functional.normalize(features, dim=1)).mean(dim=(2, 3))
    return weighted


def plan_attention_training(
    table: pd.DataFrame, features: LocalFeaturesConfig, config: AttentionTrainingConfig
) -> AttentionPlan:
    """Plan the training of DELF's attention head on the train split.

    Args:
        table: prepared image table; queries and index images are never read.
        features: its extractor must be `delf`.
        config: parameters.

    Raises:
        LandmarkRetrievalError: another extractor, or fewer than two landmarks have two train images.
    """
    if not isinstance(features.extractor, DelfConfig):
        raise LandmarkRetrievalError(
            f"attention_training: local_features.extractor is '{features.extractor.name}'; only delf has an "
            "attention head: --params local_features.extractor.name=delf"
        )
    sources, labels = labelled_train_images(table)
    return AttentionPlan(sources, labels, features, config)

"""Fine-tuning of a global descriptor, with checkpoints from which it goes on exactly."""

from __future__ import annotations

import contextlib
import logging
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from landmark_retrieval.configuration import digest
from landmark_retrieval.descriptors import GlobalDescriptorConfig, Whitening, build_pooling, describe_images
from landmark_retrieval.descriptors.backbones import build_backbone, load_by_name
from landmark_retrieval.descriptors.extraction import network_identity, to_input, trained_of
from landmark_retrieval.descriptors.model import DescriptorModel, whitening_layer
from landmark_retrieval.descriptors.trained import TrainedDescriptor
from landmark_retrieval.images import Source, source_contents
from landmark_retrieval.runtime.devices import choose_device
from landmark_retrieval.runtime.heap import retained_heap
from landmark_retrieval.training.batches import batches_per_epoch, draw_batches, most_similar_landmarks
from landmark_retrieval.training.checkpoints import CHECKPOINT, read_checkpoint, write_checkpoint
from landmark_retrieval.training.config import (
    CHECKPOINT_STEPS,
    HEAD_FACTOR,
    LOADER_THREADS,
    MINING_POOL,
    WARMUP_EPOCHS,
    WEIGHT_DECAY,
    TrainingConfig,
)
from landmark_retrieval.training.held_out import held_out_images, held_out_precision
from landmark_retrieval.training.labels import labelled_train_images
from landmark_retrieval.training.losses import BatchLoss
from landmark_retrieval.training.views import batch_shape, load_pixels, random_view

logger = logging.getLogger(__name__)

VERSION = 1
"""Raised when the same parameters would give other weights; older checkpoints are not continued."""

Log = Callable[[Mapping[str, float], int], None]


@dataclass(frozen=True)
class TrainingPlan:
    """A training that is still to be done; `run` goes on from the checkpoint in a folder where there is one.

    Attributes:
        sources: images to train on.
        labels: int64 `[n]` their landmarks, 0 to l - 1.
        held_out_sources: images whose retrieval decides when training stops.
        held_out_labels: int64 `[m]`.
        descriptor: the descriptor that is trained.
        whitening: what its whitening layer starts from.
        config: how it is trained.
    """

    sources: list[Source]
    labels: NDArray[np.int64]
    held_out_sources: list[Source]
    held_out_labels: NDArray[np.int64]
    descriptor: GlobalDescriptorConfig
    whitening: Whitening
    config: TrainingConfig

    def run(self, folder: str | Path, log: Log | None = None) -> TrainedDescriptor:
        """Train, and return the best weights.

        Args:
            folder: folder of the checkpoint.
            log: takes metrics and the epoch they belong to.
        """
        return _Training(self, Path(folder), log or (lambda metrics, epoch: None)).run()

    def fingerprint(self) -> str:
        """Return a digest of all that the result depends on; the photos are read for it once."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        ignored = {"register_as"}
        return digest(
            VERSION,
            self.config.model_dump(mode="json", exclude=ignored),
            self.descriptor.model_dump(mode="json", include={"pooling"}),
            network_identity(self.descriptor),
            source_contents([*self.sources, *self.held_out_sources]),
            self.labels.tolist(),
            digest(self.whitening.projection.tobytes().hex()),
        )


def plan_training(
    table: pd.DataFrame, descriptor: GlobalDescriptorConfig, whitening: Whitening, config: TrainingConfig
) -> TrainingPlan:
    """Choose the images of a training: train images of landmarks that have two or more.

    Args:
        table: prepared image table; queries and index images are never read.
        descriptor: to be trained.
        whitening: its learned whitening layer, which training starts from.
        config: parameters.

    Raises:
        LandmarkRetrievalError: fewer than two landmarks have two train images.
    """
    sources, labels = labelled_train_images(table)
    held = held_out_images(labels, config.held_out, config.seed)
    return TrainingPlan(
        sources=[sources[row] for row in np.flatnonzero(~held)],
        labels=labels[~held],
        held_out_sources=[sources[row] for row in np.flatnonzero(held)],
        held_out_labels=labels[held],
        descriptor=descriptor,
        whitening=whitening,
        config=config,
    )


@dataclass
class _State:
    """What a checkpoint holds beside the modules."""

    epoch: int = 0
    step: int = 0
    batches: list[list[int]] = field(default_factory=list)
    best: float = -math.inf
    best_epoch: int = -1
    loss_sum: float = 0.0


class _Training:
    def __init__(self, plan: TrainingPlan, folder: Path, log: Log) -> None:
        self.plan, self.config, self.folder, self.log = plan, plan.config, folder, log
        self.device = choose_device(plan.descriptor.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            backbone, pooling = build_backbone(plan.descriptor.backbone), plan.descriptor.pooling
            if (start := trained_of(plan.descriptor)) is not None:
                load_by_name(backbone.network, start.network, "trained_file")
                pooling = pooling.model_copy(update={"power": start.power or pooling.power})
            self.model = DescriptorModel(backbone, build_pooling(pooling), whitening_layer(plan.whitening))
            self.loss = BatchLoss(self.config, int(plan.labels.max()) + 1, self.model.width)
        self.model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.loss.to(self.device)
        groups = parameter_groups(self.model, self.loss, self.config)
        self.optimizer = torch.optim.AdamW(groups, weight_decay=WEIGHT_DECAY)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, self._rate)
        self.state = _State()
        self.best_weights: dict[str, Tensor] = {}

    def run(self) -> TrainedDescriptor:
        self._restore()
        logger.info(
            "training: %d images of %d landmarks, %d held out",
            len(self.plan.labels),
            int(self.plan.labels.max()) + 1,
            len(self.plan.held_out_labels),
        )
        if self.state.epoch == 0 and self.state.step == 0 and not self.state.batches:
            self._judge(0)
        while self.state.epoch < self.config.epochs and not self._stopped():
            self._epoch()
        weights = self.best_weights or self._weights()
        logger.info("training: best weights after epoch %d", max(self.state.best_epoch, 0))
        return self._result(weights)

    def _stopped(self) -> bool:
        waiting = self.state.epoch - max(self.state.best_epoch, 0)
        return bool(len(self.plan.held_out_labels)) and waiting >= self.config.patience

    def _epoch(self) -> None:
        state = self.state
        if not state.batches:
            state.batches, state.step, state.loss_sum = self._draw().tolist(), 0, 0.0
        total = len(state.batches)
        description = f"epoch {state.epoch + 1}"
        with (
            retained_heap(),
            tqdm(total=total, initial=state.step, desc=description, unit="batch") as progress,
        ):
            for pixels, labels in self._views(state.step):
                value = self._learn(pixels, labels)
                state.step += 1
                state.loss_sum += value
                progress.update()
                progress.set_postfix(loss=f"{state.loss_sum / state.step:.3f}")
                if state.step % CHECKPOINT_STEPS == 0:
                    self._save()
        mean_loss = state.loss_sum / total
        state.epoch, state.step, state.batches = state.epoch + 1, 0, []
        self.log({"loss": mean_loss, "learning_rate": float(self.scheduler.get_last_lr()[0])}, state.epoch)
        self._judge(state.epoch)
        self._save()

    def _learn(self, pixels: NDArray[np.uint8], labels: NDArray[np.int64]) -> float:
        state, config = self.state, self.config
        # Dropout draws from torch's global generator: from the place in the training, not from the past.
        torch.manual_seed(
            int(np.random.SeedSequence((config.seed, state.epoch, state.step)).generate_state(1)[0])
        )
        with self._precision():
            descriptors = self.model(to_input(pixels, self.model.backbone, self.device))
        value = self.loss(descriptors.float(), torch.from_numpy(labels).to(self.device))
        value.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.scheduler.step()
        return float(value.detach())

    def _draw(self) -> NDArray[np.int64]:
        config, alike = self.config, None
        if config.loss != "arcface":
            random = np.random.default_rng((config.seed, self.state.epoch, 1))
            pool = np.sort(random.permutation(len(self.plan.labels))[:MINING_POOL])
            descriptors = self._describe([self.plan.sources[row] for row in pool])
            alike = most_similar_landmarks(
                descriptors, self.plan.labels[pool], config.landmarks_per_batch - 1
            )
        return draw_batches(
            self.plan.labels,
            config.landmarks_per_batch,
            config.images_per_landmark,
            (config.seed, self.state.epoch, 0),
            alike,
        )

    def _views(self, start: int) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
        """Yield the batches of this epoch from a step on; images are read ahead."""
        batches = self.state.batches
        with ThreadPoolExecutor(LOADER_THREADS, thread_name_prefix="training") as pool:

            def load(step: int) -> list[Future[NDArray[np.uint8]]]:
                rows = batches[step] if step < len(batches) else []
                return [
                    pool.submit(load_pixels, self.plan.sources[row], self.config.max_side) for row in rows
                ]

            ahead = deque([load(start), load(start + 1)])
            for step in range(start, len(batches)):
                loading = ahead.popleft()
                ahead.append(load(step + 2))
                images = [future.result() for future in loading]
                random = np.random.default_rng((self.config.seed, self.state.epoch, step, 2))
                shape = batch_shape([image.shape[1::-1] for image in images], self.config.max_side)
                views = [random_view(image, shape, random) for image in images]
                yield np.stack(views), self.plan.labels[batches[step]]

    def _judge(self, epoch: int) -> None:
        """Measure retrieval among the held-out images and keep the weights when it is the best so far."""
        labels = self.plan.held_out_labels
        if not len(labels):
            return
        value = held_out_precision(self._describe(self.plan.held_out_sources), labels)
        self.log({"held_out_mAP": value}, epoch)
        logger.info("epoch %d: mAP %.4f on held-out images", epoch, value)
        if value > self.state.best:
            self.state.best, self.state.best_epoch = value, epoch
            self.best_weights = self._weights()

    def _describe(self, sources: list[Source]) -> NDArray[np.float32]:
        single = self.plan.descriptor.model_copy(
            update={"scales": (1.0,), "max_side": self.config.max_side, "precision": "float32"}
        )
        return describe_images(sources, single, model=self.model)[0]

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context of the network's arithmetic: bfloat16 on a GPU, float32 on a CPU."""
        if self.device.type != "cuda":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def _rate(self, step: int) -> float:
        """Return the factor of the learning rate at a step: linear rise, then half a cosine."""
        config = self.config
        batches = batches_per_epoch(self.plan.labels, config.landmarks_per_batch, config.images_per_landmark)
        steps = batches
        warmup = max(1.0, WARMUP_EPOCHS * steps)
        if step < warmup:
            return (step + 1) / (warmup + 1)
        share = (step - warmup) / max(1.0, self.config.epochs * steps - warmup)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, share)))

    def _weights(self) -> dict[str, Tensor]:
        return {name: value.detach().cpu().clone() for name, value in self.model.state_dict().items()}

    def _result(self, weights: Mapping[str, Tensor]) -> TrainedDescriptor:
        prefix = "backbone.network."
        layer = None
        if "whitening.weight" in weights:
            layer = weights["whitening.weight"], weights["whitening.bias"]
        power = weights.get("pooling.power")
        return TrainedDescriptor(
            network={
                name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)
            },
            power=None if power is None else float(power),
            whitening=layer,
            facts={
                "backbone": self.plan.descriptor.backbone.name,
                "loss": self.config.loss,
                "epochs": str(max(self.state.best_epoch, 0) or self.state.epoch),
                "training": self.plan.fingerprint(),
            },
        )

    def _save(self) -> None:
        schedule = {"last_epoch": self.scheduler.last_epoch, "_step_count": self.scheduler._step_count}
        content = {
            "model": self.model.state_dict(),
            "loss": self.loss.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": schedule,
            "state": vars(self.state),
            "best_weights": self.best_weights,
        }
        write_checkpoint(self.folder / CHECKPOINT, self.plan.fingerprint(), content)

    def _restore(self) -> None:
        stored = read_checkpoint(self.folder / CHECKPOINT, self.plan.fingerprint())
        if stored is None:
            return
        self.model.load_state_dict(stored["model"])
        self.loss.load_state_dict(stored["loss"])
        self.optimizer.load_state_dict(stored["optimizer"])
        self.scheduler.load_state_dict({**self.scheduler.state_dict(), **stored["scheduler"]})
        self.state = _State(**stored["state"])
        self.best_weights = stored["best_weights"]
        logger.info("training goes on in epoch %d at batch %d", self.state.epoch + 1, self.state.step + 1)


def parameter_groups(model: DescriptorModel, loss: nn.Module, config: TrainingConfig) -> list[dict[str, Any]]:
    """Return the trained parameters for the optimizer: the network's, and faster the head's.

    The first `config.frozen` of the network's parameters, counted from the input, are frozen.
    """
    network = list(model.backbone.parameters())
    total, seen, trained = sum(p.numel() for p in network), 0, []
    for parameter in network:
        seen += parameter.numel()
        parameter.requires_grad_(seen > config.frozen * total)
        if parameter.requires_grad:
            trained.append(parameter)
    head = [*model.pooling.parameters(), *loss.parameters()]
    if model.whitening is not None:
        head += list(model.whitening.parameters())
    groups = [
        {"params": trained, "lr": config.learning_rate},
        {"params": head, "lr": config.learning_rate * HEAD_FACTOR},
    ]
    return [group for group in groups if group["params"]]

"""From image files to global descriptors at several scales: pooled by the network, then whitened and joined.

The network's part of a descriptor, its pooled vectors, does not depend on the whitening layer that is learned
on a collection. So it can be kept: another layer costs no network. Each image is whitened and joined by
itself, and a network on the CPU gives an image the same bits in any batch, so that nothing depends on which
images share a batch.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from landmark_retrieval.descriptors.backbones import (
    Backbone,
    BackboneConfig,
    build_backbone,
    load_by_name,
    weights_identity,
)
from landmark_retrieval.descriptors.config import GlobalDescriptorConfig
from landmark_retrieval.descriptors.covariance import Covariance
from landmark_retrieval.descriptors.forward import Forward, forward_of
from landmark_retrieval.descriptors.loading import (
    ImageBatch,
    Unreadable,
    drawn_ahead,
    iterate_batches,
    page_locked,
)
from landmark_retrieval.descriptors.model import DescriptorModel, whitening_layer
from landmark_retrieval.descriptors.pooling import GeM, build_pooling, region_pooling
from landmark_retrieval.descriptors.trained import UNIT_REGIONS, TrainedDescriptor, load_trained
from landmark_retrieval.descriptors.whitening import Whitening, whitening_from_moments
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.images import Source, content_digest
from landmark_retrieval.runtime.devices import choose_device
from landmark_retrieval.runtime.heap import retained_heap
from landmark_retrieval.runtime.progress import image_progress

logger = logging.getLogger(__name__)

BATCHES_AHEAD = 2
"""Batches that are ready for a GPU while it computes."""

MOMENT_IMAGES = 16
"""Images whose regions are added to the moments at a time."""


@dataclass(frozen=True)
class Pooled:
    """What the network gives of one image.

    Attributes:
        vectors: `[m, c]` unit rows: of each scale its regions (one for GeM), and after them regions to learn
            the whitening layer from, where they are others; float16 where the layer is learned, else float32.
        counts: how many of them belong to each scale, and to the last part.
    """

    vectors: NDArray[np.floating[Any]]
    counts: tuple[int, ...]

    def scales(self) -> list[NDArray[np.floating[Any]]]:
        """Return the vectors of each scale, `[r, c]` each."""
        return np.split(self.vectors, np.cumsum(self.counts)[:-1])[:-1]

    def regions(self, config: GlobalDescriptorConfig) -> NDArray[np.floating[Any]]:
        """Return the regions `[r, c]` that the whitening layer is learned on."""
        extra = self.vectors[sum(self.counts[:-1]) :]
        return extra if len(extra) else self.scales()[learning_scale(config)]


@dataclass(frozen=True)
class Undescribed:
    """Why there is nothing of an image, and whether that may pass."""

    reason: str
    passing: bool


def learning_scale(config: GlobalDescriptorConfig) -> int:
    """Return the position of the scale closest to 1, whose regions the whitening layer is learned on."""
    return int(np.argmin(np.abs(np.log(config.scales))))


def has_learned_layer(config: GlobalDescriptorConfig) -> bool:
    """Return whether the whitening layer is learned on the collection, and not trained or left out."""
    return config.region_whitening is not None and trained_layer(config) is None


def pool_images(
    paths: Sequence[Source],
    config: GlobalDescriptorConfig,
    model: DescriptorModel | None = None,
    show_progress: bool = False,
) -> Iterator[tuple[int, Pooled | Undescribed]]:
    """Run the network on image files.

    Args:
        paths: image files, or parts of them.
        config: sizes, network and pooling.
        model: used instead of the one that `config` describes.
        show_progress: whether a bar counts the images.

    Yields:
        The position of each image once, in any order, with what the network gives of it.
    """
    device = choose_device(config.device)
    model = model or build_model(config, None)
    learning = region_pooling(config.pooling) if has_learned_layer(config) else None
    forward = forward_of(model.backbone, config.precision, device)
    on_gpu, computing = device.type == "cuda", deque[tuple[ImageBatch, list[Tensor], Any]]()

    def finished(left: int) -> Iterator[tuple[int, Pooled | Undescribed]]:
        """Yield what the network has given of all batches but the latest `left`."""
        while len(computing) > left:
            batch, parts, event = computing.popleft()
            if event is not None:
                event.synchronize()
            yield from _split(batch, parts)
            progress.update(len(batch.positions))

    with (
        retained_heap(),
        torch.inference_mode(),
        image_progress(len(paths), "described", show_progress) as progress,
    ):
        items = iterate_batches(paths, config, page_locked if on_gpu else np.stack)
        for item in drawn_ahead(items, BATCHES_AHEAD) if on_gpu else items:
            if isinstance(item, Unreadable):
                logger.warning("unreadable image %s: %s", paths[item.position], item.reason)
                yield item.position, Undescribed(item.reason, item.passing)
                progress.update()
                continue
            parts = _pool_batch(model, forward, item, config, device, learning)
            computing.append((item, *_to_host(parts)))
            yield from finished(left=1 if on_gpu else 0)  # while the device computes, the next one is started
        yield from finished(left=0)


def _to_host(parts: list[Tensor]) -> tuple[list[Tensor], Any]:
    """Return tensors on the CPU, and the event after which a GPU has filled them; None for at once."""
    if not parts[0].is_cuda:
        return parts, None
    host = [torch.empty_like(part, device="cpu", pin_memory=True) for part in parts]
    for target, part in zip(host, parts, strict=True):
        target.copy_(part, non_blocking=True)
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()
    return host, event


def _split(batch: ImageBatch, parts: list[Tensor]) -> Iterator[tuple[int, Pooled]]:
    arrays = [part.numpy() for part in parts]
    counts = tuple(part.shape[1] for part in arrays)
    for number, position in enumerate(batch.positions):
        yield position, Pooled(np.concatenate([part[number] for part in arrays]), counts)


def _pool_batch(
    model: DescriptorModel,
    forward: Forward,
    batch: ImageBatch,
    config: GlobalDescriptorConfig,
    device: torch.device,
    learning: nn.Module | None,
) -> list[Tensor]:
    """Return the vectors of each scale and those to learn from, `[b, r, c]`; float16 if they are kept."""
    parts, extra = [], None
    for number, pixels in enumerate(batch.scales):
        features = forward(to_input(pixels, model.backbone, device))
        vectors = model.pooling.regions(features)
        if learning is not None and number == learning_scale(config) and isinstance(model.pooling, GeM):
            extra = learning.regions(features)  # type: ignore[operator]
        parts.append(vectors)
    parts.append(parts[0][:, :0] if extra is None else extra)
    parts = [part.float() for part in parts]
    if model.unit_regions:
        parts = [functional.normalize(part, dim=-1) for part in parts]
    return [part.half() for part in parts] if learning is not None else parts


def join_scales(
    scales: Sequence[NDArray[np.floating[Any]]], layer: nn.Linear | None, power: float
) -> NDArray[np.float32]:
    """Return the descriptor of one image from its pooled vectors.

    Each vector is whitened, those of a scale are added, and the scales are averaged.

    Args:
        scales: unit rows `[r, c]` of each scale.
        layer: the whitening layer, None for none.
        power: exponent of the mean over scales.

    Returns:
        float32 `[e]` of unit length, zero where the network gave no finite values.
    """
    device = torch.device("cpu") if layer is None else layer.weight.device
    with torch.inference_mode():
        total: Tensor | None = None
        for vectors in scales:
            regions = torch.from_numpy(np.array(vectors)).to(device).float()
            if layer is not None:
                regions = functional.normalize(layer(regions), dim=-1)
            joined = functional.normalize(regions.sum(dim=0), dim=-1)
            if power != 1:
                joined = joined.clamp(min=0).pow(power)
            total = joined if total is None else total + joined
        assert total is not None
        if power != 1:
            total = total.pow(1 / power)
        described = functional.normalize(total, dim=-1)
        found = torch.where(torch.isfinite(described).all(), described, 0.0)
    return np.asarray(found.cpu().numpy(), np.float32)


def describe_images(
    paths: Sequence[Source],
    config: GlobalDescriptorConfig,
    region_whitening: Whitening | None = None,
    model: DescriptorModel | None = None,
    show_progress: bool = False,
) -> tuple[NDArray[np.float32], list[str | Undescribed]]:
    """Describe image files.

    Args:
        paths: image files, or parts of them.
        config: how images become descriptors.
        region_whitening: the layer after the pooling; None for none.
        model: used instead of the one that `config` describes.
        show_progress: whether a bar counts the images.

    Returns:
        Descriptors `[n, d]` (unit rows; zero where unreadable), and "" or why an image is unreadable.
    """
    model = model or build_model(config, region_whitening)
    result = np.zeros((len(paths), model.width), dtype=np.float32)
    reasons: list[str | Undescribed] = [""] * len(paths)
    for position, pooled in pool_images(paths, config, model, show_progress):
        if isinstance(pooled, Undescribed):
            reasons[position] = pooled
        else:
            result[position] = join_scales(pooled.scales(), model.whitening, config.scale_power)
    return result, reasons


def fit_region_whitening(regions: Iterable[NDArray[Any]], config: GlobalDescriptorConfig) -> Whitening:
    """Learn the whitening layer from regions (R-MAC grid) of images at the scale closest to 1.

    Only moments are kept, never the regions. Regions of one image overlap and look alike, so the shrinkage
    counts images, not regions, as independent samples.

    Args:
        regions: of each image `[r, c]`.
        config: descriptor whose `region_whitening` says how.

    Returns:
        The whitening, `Whitening.none()` when the descriptor has none; a trained layer as it was trained.
    """
    layer = trained_layer(config)
    if layer is not None or config.region_whitening is None:
        return layer or Whitening.none()
    total: Covariance | None = None
    within: Covariance | None = None
    images, waiting = 0, list[NDArray[np.float32]]()

    def add() -> None:
        nonlocal total, within
        if waiting:
            total, within = (one or Covariance(waiting[0].shape[1]) for one in (total, within))
            total.update(np.concatenate(waiting))
            within.update(np.concatenate([one - one.mean(axis=0) for one in waiting]))
            waiting.clear()

    for one in regions:
        waiting.append(np.asarray(one, np.float32))
        images += 1
        if len(waiting) == MOMENT_IMAGES:
            add()
    add()
    if total is None:
        logger.warning("whitening layer: not one image to learn it on; left out")
        return Whitening.none()
    moments = within if config.region_whitening.covariance != "total" else None
    return whitening_from_moments(total, config.region_whitening, moments, effective_count=images)


def build_model(config: GlobalDescriptorConfig, region_whitening: Whitening | None) -> DescriptorModel:
    """Return the model of a configuration on its device, ready for inference.

    The network is loaded once per process and configuration.

    Args:
        config: backbone, pooling and device.
        region_whitening: the layer after the pooling, None for none.

    Raises:
        LandmarkRetrievalError: weights cannot be had or do not fit, or the layer is of another network.
    """
    device = choose_device(config.device)
    trained, pooling = trained_of(config), config.pooling
    backbone = _cached_backbone(config.backbone, str(device), trained)
    if trained is not None and trained.power is not None:
        pooling = pooling.model_copy(update={"power": trained.power})
    layer = whitening_layer(region_whitening or Whitening.none())
    if layer is not None and layer.in_features != backbone.channels:
        raise LandmarkRetrievalError(
            f"region whitening was learned on {layer.in_features}-d regions, {config.backbone.name} gives "
            f"{backbone.channels}; run the features pipeline again"
        )
    unit_regions = trained is None or trained.facts.get(UNIT_REGIONS) != "no"
    model = DescriptorModel(backbone, build_pooling(pooling, trainable=False), layer, unit_regions)
    return model.to(device).eval()


@lru_cache(maxsize=4)
def _cached_backbone(config: BackboneConfig, device: str, trained: TrainedDescriptor | None) -> Backbone:
    backbone = build_backbone(config)
    if trained is not None:
        load_by_name(backbone.network, trained.network, "trained_file")
    on_cpu = torch.device(device).type == "cpu"
    layout = torch.channels_last if on_cpu else torch.contiguous_format  # `Forward` has its own copy on a GPU
    backbone.to(device=device, memory_format=layout)  # type: ignore[call-overload]
    backbone.requires_grad_(False)
    return backbone


def network_identity(config: GlobalDescriptorConfig) -> dict[str, Any]:
    """Return what the network depends on, for fingerprints: of files a digest of their content."""
    identity = weights_identity(config.backbone)
    if config.trained:
        identity["trained"] = content_digest(str(config.trained_file))
    return identity


def trained_of(config: GlobalDescriptorConfig) -> TrainedDescriptor | None:
    """Return the trained descriptor of a configuration, None where it takes the backbone's own weights."""
    return load_trained(str(config.trained_file), config.backbone.name) if config.trained else None


def trained_layer(config: GlobalDescriptorConfig) -> Whitening | None:
    """Return the trained whitening layer of a configuration, None where it has none."""
    trained = trained_of(config)
    return None if trained is None or trained.whitening is None else trained.as_whitening()


def to_input(pixels: NDArray[np.uint8], backbone: Backbone, device: torch.device) -> Tensor:
    """Return normalised network input `[b, 3, h, w]` float32 (channels last) of pixels `[b, h, w, 3]`."""
    tensor = torch.from_numpy(pixels)
    if device.type == "cuda":
        tensor = tensor.to(device, non_blocking=True)
    mean = torch.tensor(backbone.mean, device=device) * 255
    std = torch.tensor(backbone.std, device=device) * 255
    return tensor.float().sub_(mean).div_(std).permute(0, 3, 1, 2)

"""Multi-scale extraction of global descriptors, in resumable shards."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from landmark_retrieval.configuration import digest
from landmark_retrieval.descriptors.backbones import (
    Backbone,
    BackboneConfig,
    build_backbone,
    load_by_name,
    weights_identity,
)
from landmark_retrieval.descriptors.config import GlobalDescriptorConfig
from landmark_retrieval.descriptors.covariance import Covariance
from landmark_retrieval.descriptors.loading import ImageBatch, Unreadable, iterate_batches
from landmark_retrieval.descriptors.model import DescriptorModel, whitening_layer
from landmark_retrieval.descriptors.pooling import build_pooling, region_pooling
from landmark_retrieval.descriptors.trained import UNIT_REGIONS, TrainedDescriptor, load_trained
from landmark_retrieval.descriptors.whitening import (
    Whitening,
    whitening_from_moments,
    whitening_rows,
)
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.images import Source, content_digest, image_shards, image_sources, source_contents
from landmark_retrieval.runtime.devices import autocast, choose_device
from landmark_retrieval.runtime.heap import retained_heap
from landmark_retrieval.runtime.progress import image_progress
from landmark_retrieval.runtime.sharding import ExecutorConfig, ShardPlan, ShardStore, ShardTask

logger = logging.getLogger(__name__)

VERSION = 2
"""Raised whenever the same parameters would give other descriptors, so that stored shards are made anew."""


def plan_global_extraction(
    table: pd.DataFrame,
    config: GlobalDescriptorConfig,
    executor: ExecutorConfig | None = None,
    region_whitening: Whitening | ShardStore | None = None,
    contents: Sequence[str] | NDArray[np.str_] | None = None,
) -> ShardPlan:
    """Plan the description of every image of a table.

    Shards hold `rows` int64 `[b]`, `descriptors` `[b, d]` float32 (unit rows; zero where unreadable) and
    `reasons` str `[b]` ("" where readable).

    Args:
        table: image table with `image_id`, `path` and optionally `crop`.
        config: how images become descriptors.
        executor: where shards are computed; default: in this process, which is right for a GPU.
        region_whitening: what `read_region_whitening` returned, or its store, which each worker then reads
            for itself.
        contents: what `read_image_contents` returned; None reads all images to digest them.
    """
    config = _with_absolute_file(config)
    source = region_whitening or Whitening.none()
    whitening = _whitening_of(source)
    options = config.model_dump(
        mode="json",
        include={"pooling", "max_side", "size_multiple", "scales", "scale_power", "precision"},
    )
    identity = network_identity(config)
    network = digest(
        VERSION,
        options,
        identity,
        hashlib.sha256(whitening.mean.tobytes() + whitening.projection.tobytes()).hexdigest(),
    )
    executor = executor or ExecutorConfig()
    alone = executor.backend == "sequential"  # the bars of several would write over each other
    tasks = []
    for start, paths, state in image_shards(table, config.shard_size, contents):
        compute = executor.alike(partial(compute_shard, start, paths, config, source, alone))
        tasks.append(ShardTask(f"global-{start:08d}", digest(network, *state), compute))
    description = f"{config.pooling.kind} descriptors ({config.backbone.name})"
    metadata, parameters = {"images": len(table)}, {**options, "backbone": identity}
    return ShardPlan(description, tasks, executor, metadata, parameters)


def compute_shard(
    start: int,
    paths: Sequence[Source],
    config: GlobalDescriptorConfig,
    whitening: Whitening | ShardStore,
    show_progress: bool,
) -> dict[str, NDArray[Any]]:
    """Describe consecutive images; see `plan_global_extraction` for the arrays."""
    descriptors, reasons = describe_images(
        paths, config, _whitening_of(whitening), show_progress=show_progress
    )
    return {
        "rows": np.arange(start, start + len(paths), dtype=np.int64),
        "descriptors": descriptors,
        "reasons": np.array(reasons, dtype=str),
    }


def describe_images(
    paths: Sequence[Source],
    config: GlobalDescriptorConfig,
    region_whitening: Whitening | None = None,
    model: DescriptorModel | None = None,
    show_progress: bool = False,
) -> tuple[NDArray[np.float32], list[str]]:
    """Describe image files.

    Args:
        paths: image files, or parts of them.
        config: how images become descriptors.
        region_whitening: applied to the regions of R-MAC.
        model: used instead of the one that `config` describes.
        show_progress: whether a bar counts the images.

    Returns:
        Descriptors `[n, d]` (unit rows; zero where unreadable) and the reason of every unreadable image
        ("" for the others).
    """
    device = choose_device(config.device)
    model = model or build_model(config, region_whitening)
    reasons = [""] * len(paths)
    described: list[tuple[tuple[int, ...], Tensor]] = []
    with (
        retained_heap(),
        torch.inference_mode(),
        image_progress(len(paths), "described", show_progress) as progress,
    ):
        for item in iterate_batches(paths, config):
            if isinstance(item, Unreadable):
                reasons[item.position] = item.reason
                logger.warning("unreadable image %s: %s", paths[item.position], item.reason)
                progress.update()
            else:
                described.append((item.positions, describe_batch(model, item, config, device)))
                progress.update(len(item.positions))
        result = np.zeros((len(paths), model.width), dtype=np.float32)
        for positions, descriptors in described:
            result[list(positions)] = descriptors.cpu().numpy()
    return result, reasons


def describe_batch(
    model: DescriptorModel, batch: ImageBatch, config: GlobalDescriptorConfig, device: torch.device
) -> Tensor:
    """Return the multi-scale descriptors of a batch, `[b, d]` unit rows on the device."""
    total: Tensor | None = None
    for pixels in batch.scales:
        with autocast(config, device):
            descriptors = model(to_input(pixels, model.backbone, device))
        if config.scale_power != 1:
            descriptors = descriptors.clamp(min=0).pow(config.scale_power)
        total = descriptors if total is None else total + descriptors
    assert total is not None
    if config.scale_power != 1:
        total = total.pow(1 / config.scale_power)
    described: Tensor = functional.normalize(total, dim=-1)
    return torch.where(torch.isfinite(described).all(dim=1, keepdim=True), described, 0.0)


def plan_region_whitening(
    table: pd.DataFrame, config: GlobalDescriptorConfig, executor: ExecutorConfig | None = None
) -> ShardPlan:
    """Plan the learning of the whitening layer, one shard, so that it is learned once.

    Args:
        table: image table; the rows are chosen by `whitening_rows`.
        config: descriptor whose `region_whitening` says how.
        executor: where it is learned; default: in this process.

    Returns:
        A plan whose shard holds the arrays of `Whitening`; `read_region_whitening` reads it.
    """
    from landmark_retrieval.collection import SplitRows

    rows = np.zeros(0, np.int64)
    if config.region_whitening is not None and trained_layer(config) is None:
        rows = whitening_rows(SplitRows.from_table(table), config.region_whitening)
    paths = image_sources(table.iloc[rows])
    options = config.model_dump(
        mode="json", include={"pooling", "max_side", "size_multiple", "precision", "region_whitening"}
    )
    identity = network_identity(config)
    fingerprint = digest(VERSION, options, identity, source_contents(paths))
    executor = executor or ExecutorConfig()
    compute = executor.alike(partial(region_whitening_shard, paths, config))
    task = ShardTask("region-whitening", fingerprint, compute)
    return ShardPlan(
        f"whitening of regions ({config.backbone.name})",
        [task],
        executor,
        parameters={**options, "backbone": identity},
    )


def _whitening_of(source: Whitening | ShardStore) -> Whitening:
    return source if isinstance(source, Whitening) else read_region_whitening(source)


def _with_absolute_file(config: GlobalDescriptorConfig) -> GlobalDescriptorConfig:
    """Return a configuration that means the same to workers that were started elsewhere."""
    if not config.trained:
        return config
    return config.model_copy(update={"trained_file": str(Path(str(config.trained_file)).absolute())})


def read_region_whitening(store: ShardStore) -> Whitening:
    """Return what a plan of `plan_region_whitening` has learned."""
    (shard,) = store
    return Whitening(shard["mean"], shard["projection"])


def region_whitening_shard(
    paths: Sequence[Source], config: GlobalDescriptorConfig
) -> dict[str, NDArray[Any]]:
    """Return the arrays of the shard of `plan_region_whitening`."""
    return vars(fit_region_whitening(paths, config))


def fit_region_whitening(paths: Sequence[Source], config: GlobalDescriptorConfig) -> Whitening:
    """Learn the whitening layer from regions (R-MAC grid) of images at scale 1.

    Only moments are kept, never the regions. Regions of one image overlap and look alike, so the shrinkage
    counts images, not regions, as independent samples.

    Args:
        paths: image files, or parts of them.
        config: descriptor whose `region_whitening` says how.

    Returns:
        The whitening, `Whitening.none()` when the descriptor has none; a trained layer as it was trained.
    """
    layer = trained_layer(config)
    if layer is not None or config.region_whitening is None:
        return layer or Whitening.none()
    total, within, images = region_moments(paths, config)
    if config.region_whitening.covariance == "total":
        return whitening_from_moments(total, config.region_whitening, effective_count=images)
    return whitening_from_moments(total, config.region_whitening, within, effective_count=images)


def region_moments(
    paths: Sequence[Source], config: GlobalDescriptorConfig
) -> tuple[Covariance, Covariance, int]:
    """Describe all regions of some images at scale 1.

    Returns:
        Moments of the regions, moments of their deviations from the mean of their image, and the number of
        readable images.
    """
    single = config.model_copy(update={"scales": (1.0,)})
    device = choose_device(config.device)
    backbone = build_model(single, None).backbone
    model = DescriptorModel(backbone, region_pooling(config.pooling))
    total, within, images = Covariance(backbone.channels), Covariance(backbone.channels), 0
    with (
        retained_heap(),
        torch.inference_mode(),
        image_progress(len(paths), "regions for whitening") as progress,
    ):
        for item in iterate_batches(paths, single):
            if isinstance(item, Unreadable):
                progress.update()
                continue
            with autocast(config, device):
                regions = model.regions(to_input(item.scales[0], backbone, device))
            total.update(regions.flatten(0, 1).cpu().numpy())
            deviations = regions - regions.mean(dim=1, keepdim=True)
            within.update(deviations.flatten(0, 1).cpu().numpy())
            images += len(item.positions)
            progress.update(len(item.positions))
    return total, within, images


def build_model(config: GlobalDescriptorConfig, region_whitening: Whitening | None) -> DescriptorModel:
    """Return the model of a configuration on its device, ready for inference.

    The network is loaded once per process and configuration.

    Args:
        config: backbone, pooling and device.
        region_whitening: the layer after the pooling, what `read_region_whitening` returned; None for none.

    Raises:
        LandmarkRetrievalError: weights cannot be had or do not fit, or the layer is of another network.
    """
    device = choose_device(config.device)
    trained, pooling = trained_of(config), config.pooling
    backbone = _cached_backbone(config.backbone, str(device), config.compile, trained)
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
def _cached_backbone(
    config: BackboneConfig, device: str, compile_network: bool, trained: TrainedDescriptor | None
) -> Backbone:
    backbone = build_backbone(config)
    if trained is not None:
        load_by_name(backbone.network, trained.network, "trained_file")
    backbone.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    backbone.requires_grad_(False)
    if compile_network:
        backbone.compile(dynamic=True)
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
        tensor = tensor.pin_memory().to(device, non_blocking=True)
    mean = torch.tensor(backbone.mean, device=device) * 255
    std = torch.tensor(backbone.std, device=device) * 255
    return tensor.float().sub_(mean).div_(std).permute(0, 3, 1, 2)

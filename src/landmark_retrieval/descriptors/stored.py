"""Global descriptors of the photos of a table, computed where the store does not hold them yet."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from landmark_retrieval.collection.contents import ImageContents
from landmark_retrieval.collection.image_table import SplitRows
from landmark_retrieval.configuration import digest
from landmark_retrieval.descriptors.config import GlobalDescriptorConfig
from landmark_retrieval.descriptors.extraction import (
    Pooled,
    Undescribed,
    build_model,
    describe_images,
    fit_region_whitening,
    has_learned_layer,
    join_scales,
    network_identity,
    pool_images,
)
from landmark_retrieval.descriptors.matrix import BlockArray, gather_results
from landmark_retrieval.descriptors.model import whitening_layer
from landmark_retrieval.descriptors.whitening import Whitening, whitening_rows
from landmark_retrieval.images import Source, image_sources, why_unreadable
from landmark_retrieval.runtime.devices import choose_device, resolved_precision, shard_size
from landmark_retrieval.runtime.sharding import ExecutorConfig
from landmark_retrieval.runtime.store import PASSING, Filled, Request, Store
from landmark_retrieval.runtime.store_files import Arrays
from landmark_retrieval.runtime.store_index import Places

VERSION = 3
"""Raised whenever the same parameters would give other descriptors, so that all are made anew."""

POOLED, JOINED, LAYERS = "pooled", "descriptors", "region_whitening"
"""Kinds of namespaces, each followed by the kind of pooling."""


@dataclass(frozen=True)
class RawDescriptors:
    """Descriptors of all photos of a table, before their whitening.

    Attributes:
        ids: str `[n]` image ids.
        matrix: float32 `[n, d]` unit rows, zero where a photo cannot be read.
        skipped: int64 `[s]` rows of photos that cannot be read.
        reasons: str `[s]` why.
        parameters: that they depend on, as JSON.
    """

    ids: NDArray[np.str_]
    matrix: NDArray[np.float32] | BlockArray
    skipped: NDArray[np.int64]
    reasons: NDArray[np.str_]
    parameters: str


def descriptor_parameters(config: GlobalDescriptorConfig) -> dict[str, Any]:
    """Return everything that the network's part of a descriptor depends on, readable."""
    options = config.model_dump(
        mode="json", include={"pooling", "max_side", "size_multiple", "scales", "scale_power"}
    )
    precision = resolved_precision(config)
    return {"version": VERSION, **options, "precision": precision, "backbone": network_identity(config)}


def learn_region_whitening(
    table: pd.DataFrame,
    contents: ImageContents,
    store: Store,
    config: GlobalDescriptorConfig,
    executor: ExecutorConfig | None = None,
) -> Whitening:
    """Learn the whitening layer that follows the pooling of regions, where it is to be learned.

    With `keep_regions` the network runs on every photo of the table here, else on those that the layer is
    learned on.

    Args:
        table: image table; the rows are chosen by `whitening_rows`.
        contents: of its photos.
        store: where pooled vectors and layers are kept.
        config: descriptor whose `region_whitening` says how.
        executor: where the network runs; default: in this process, which is right for a GPU.
    """
    if not has_learned_layer(config) or config.region_whitening is None:
        return fit_region_whitening([], config)
    rows = whitening_rows(SplitRows.from_table(table), config.region_whitening)
    if config.keep_regions:
        _pool(table, contents.keys, store, config, executor)
    places = _pool(table.iloc[rows], contents.keys[rows], store, config, executor).places
    places = places.take(np.flatnonzero(places.there))
    parameters = {
        **descriptor_parameters(config),
        "region_whitening": config.region_whitening.model_dump(mode="json"),
    }
    key = digest(contents.keys[rows][contents.keys[rows] != ""].tolist())

    def prepare(_: NDArray[np.int64]) -> partial[Arrays]:
        return partial(_learn, places, config)

    request = Request("whitening of regions", "layer", prepare, 1)
    found = store.namespace(_kind(LAYERS, config), parameters).fill(np.array([key]), request).places
    return Whitening(found.read("mean")[0], found.read("projection")[0])


def describe_photos(
    table: pd.DataFrame,
    contents: ImageContents,
    store: Store,
    region_whitening: Whitening,
    config: GlobalDescriptorConfig,
    executor: ExecutorConfig | None = None,
) -> RawDescriptors:
    """Describe every photo of a table that is not described yet.

    Args:
        table: image table with `image_id`, `path` and optionally `crop`.
        contents: of its photos.
        store: where descriptors are kept.
        region_whitening: what `learn_region_whitening` returned.
        config: how photos become descriptors.
        executor: where; default: in this process.
    """
    config = _with_absolute_file(config)
    parameters = descriptor_parameters(config)
    layer = region_whitening.mean.tobytes() + region_whitening.projection.tobytes()
    sources, keys = image_sources(table), contents.keys
    pooled = None
    if has_learned_layer(config) and config.keep_regions:
        pooled = _pool(table, keys, store, config, executor)  # the layer was learned on upright photos only

    def prepare(rows: NDArray[np.int64]) -> partial[Arrays]:
        if pooled is not None:
            return partial(_join, pooled.places.take(rows), region_whitening, config)
        return partial(_describe, [sources[row] for row in rows], region_whitening, config, alone)

    executor = executor or ExecutorConfig()
    alone = executor.backend == "sequential"  # the bars of several would write over each other
    name = f"{config.pooling.kind} descriptors ({config.backbone.name})"
    what, unit = (f"{name} from regions", "join") if pooled is not None else (name, "photo")
    request = Request(what, unit, prepare, shard_size(config), executor=executor)
    parameters_of_joined = {**parameters, "layer": hashlib.sha256(layer).hexdigest()[:16]}
    namespace = store.namespace(_kind(JOINED, config), parameters_of_joined)
    found = namespace.fill(keys, request)
    reasons = {**found.reasons, **(pooled.reasons if pooled is not None else {})}
    skipped, told = skipped_rows(sources, keys, reasons)
    width = config_width(config, region_whitening)
    matrix = gather_results(found.places, "descriptors", width)
    ids = table["image_id"].to_numpy(dtype=str)
    return RawDescriptors(ids, matrix, skipped, told, json.dumps(parameters))


def skipped_rows(
    sources: list[Source], keys: NDArray[np.str_], reasons: Mapping[int, str]
) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
    """Return the rows of a table without a result, ascending, and why there is none."""
    missing = {int(row): why_unreadable(sources[row]) for row in np.flatnonzero(keys == "")}
    every = {**missing, **reasons}
    rows = np.array(sorted(every), np.int64)
    return rows, np.array([every[row] for row in rows.tolist()], dtype=str)


def config_width(config: GlobalDescriptorConfig, region_whitening: Whitening) -> int:
    """Return the length of a descriptor."""
    if not region_whitening.is_none:
        return int(region_whitening.projection.shape[1])
    return build_model(config, None).width


def _pool(
    table: pd.DataFrame,
    keys: NDArray[np.str_],
    store: Store,
    config: GlobalDescriptorConfig,
    executor: ExecutorConfig | None,
) -> Filled:
    """Run the network on the photos whose pooled vectors are not kept yet."""
    executor = executor or ExecutorConfig()
    alone = executor.backend == "sequential"
    sources = image_sources(table)

    def prepare(rows: NDArray[np.int64]) -> partial[Arrays]:
        return partial(_pool_shard, [sources[row] for row in rows], config, alone)

    what = f"{config.pooling.kind} descriptors ({config.backbone.name})"
    request = Request(what, "photo", prepare, shard_size(config), executor=executor)
    return store.namespace(_kind(POOLED, config), descriptor_parameters(config)).fill(keys, request)


def _kind(kind: str, config: GlobalDescriptorConfig) -> str:
    return f"{kind}_{config.pooling.kind}"


def _pool_shard(paths: list[Source], config: GlobalDescriptorConfig, show_progress: bool) -> Arrays:
    """Return `parts.vectors`, `counts` int32 `[b, scales + 1]` of `Pooled`, `reasons` and `passing`."""
    found = dict(pool_images(paths, config, show_progress=show_progress))
    channels = build_model(config, None).backbone.channels
    nothing = np.zeros((0, channels), np.float16)
    vectors = [nothing if isinstance(one, Undescribed) else one.vectors for one in _in_order(found)]
    counts = np.zeros((len(paths), len(config.scales) + 1), np.int32)
    for position, one in found.items():
        if not isinstance(one, Undescribed):
            counts[position] = one.counts
    return {
        "parts.vectors": np.concatenate([nothing, *vectors]),
        "offsets": np.cumsum([0, *map(len, vectors)], dtype=np.int64),
        "counts": counts,
        **_failures([one if isinstance(one, Undescribed) else "" for one in _in_order(found)]),
    }


def _in_order(found: dict[int, Any]) -> Iterator[Any]:
    return (found[position] for position in range(len(found)))


def _failures(reasons: list[str | Undescribed]) -> dict[str, NDArray[Any]]:
    told = [one.reason if isinstance(one, Undescribed) else "" for one in reasons]
    passing = [isinstance(one, Undescribed) and one.passing for one in reasons]
    return {"reasons": np.array(told, dtype=str), PASSING: np.array(passing, np.bool_)}


def _learn(places: Places, config: GlobalDescriptorConfig) -> Arrays:
    def regions() -> Iterator[NDArray[Any]]:
        for _, one in _pooled_of(places):
            yield one.regions(config)

    layer = fit_region_whitening(regions(), config)
    return {"mean": layer.mean[None], "projection": layer.projection[None]}


def _pooled_of(places: Places) -> Iterator[tuple[int, Pooled]]:
    """Yield what the network gave of each photo, in order, with its position; nothing of unreadable ones."""
    for position, arrays in places.each("counts", "parts.vectors"):
        if len(arrays["parts.vectors"]):
            yield position, Pooled(arrays["parts.vectors"], tuple(arrays["counts"].tolist()))


def _join(places: Places, region_whitening: Whitening, config: GlobalDescriptorConfig) -> Arrays:
    layer = whitening_layer(region_whitening)
    if layer is not None:
        layer = layer.to(choose_device(config.device)).eval()
    width = len(region_whitening.mean) if layer is None else layer.out_features
    described = np.zeros((len(places.shard), width or config_width(config, region_whitening)), np.float32)
    for position, pooled in _pooled_of(places):
        described[position] = join_scales(pooled.scales(), layer, config.scale_power)
    told = np.where(places.there, "", "could not be read, see the log")
    return {"descriptors": described, "reasons": told, PASSING: ~places.there}


def _describe(
    paths: list[Source], region_whitening: Whitening, config: GlobalDescriptorConfig, show_progress: bool
) -> Arrays:
    described, reasons = describe_images(paths, config, region_whitening, show_progress=show_progress)
    return {"descriptors": described, **_failures(reasons)}


def _with_absolute_file(config: GlobalDescriptorConfig) -> GlobalDescriptorConfig:
    """Return a configuration that means the same to workers that were started elsewhere."""
    if not config.trained:
        return config
    return config.model_copy(update={"trained_file": str(Path(str(config.trained_file)).absolute())})

"""What a search needs of a finished run: descriptors, local features, graph, labels, and their making."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel

from landmark_retrieval.collection import SplitRows, landmark_of
from landmark_retrieval.descriptors import (
    BlendConfig,
    Descriptors,
    GlobalDescriptorConfig,
    Whitening,
    check_ids,
    descriptor_parameters,
)
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.evaluation.ranking import RankingConfig
from landmark_retrieval.graph import CsrGraph, EgtConfig, LabelBridge, LabelBridgeConfig, Votes
from landmark_retrieval.graph.egt import NO_HUBS, Hubs
from landmark_retrieval.graph.label_bridge import NO_LABEL, label_hubs
from landmark_retrieval.graph.label_evidence import LabelEvidence
from landmark_retrieval.graph.trusted import verified_graphs
from landmark_retrieval.knn import KnnConfig
from landmark_retrieval.local_features import (
    LocalFeaturesConfig,
    LocalFeatureStore,
    local_parameters,
)
from landmark_retrieval.runtime.sharding import changed_parameters
from landmark_retrieval.verification import ExpansionConfig, VerificationConfig, pair_parameters
from landmark_retrieval.verification.calibration import InlierFit, from_plain

Config = TypeVar("Config", bound=BaseModel)


@dataclass(frozen=True)
class DescriptorSteps:
    """How a photo becomes one global descriptor.

    Attributes:
        config: network, pooling and sizes.
        region_whitening: the whitening layer that was learned.
        whitening: the whitening of finished descriptors that was learned.
    """

    config: GlobalDescriptorConfig
    region_whitening: Whitening
    whitening: Whitening


@dataclass(frozen=True, eq=False)
class SearchIndex:
    """All artifacts of a run that a search reads; matrices may be memory-mapped.

    Attributes:
        images: the prepared image table.
        steps: one for each global descriptor of the blend.
        blend: how they are joined.
        plain: descriptors of the index before expansion, `[n, d]`.
        expanded: descriptors of all rows of the table after expansion, `[queries + n + train, d]`.
        local_features: how local features are extracted.
        local_pca: the projection of local descriptors that was learned.
        features: stored local features of all rows of the table.
        knn: parameters of all searches.
        verification: parameters without open values.
        inlier_fits: what inliers prove, for either kind of pairs.
        trusted: index images that trusted edges link to each index image.
        expansion: parameters.
        index_graph: undirected graph of the index images.
        labels: what labels prove, and those of the index images.
        bridge: voted labels of the index images (those of the run's queries are not used).
        egt: parameters.
        label_bridge: parameters.
        ranking: parameters.
    """

    images: pd.DataFrame
    steps: Sequence[DescriptorSteps]
    blend: BlendConfig
    plain: NDArray[np.floating[Any]]
    expanded: NDArray[np.floating[Any]]
    local_features: LocalFeaturesConfig
    local_pca: Whitening
    features: LocalFeatureStore
    knn: KnnConfig
    verification: VerificationConfig
    inlier_fits: Mapping[str, InlierFit]
    trusted: CsrGraph
    expansion: ExpansionConfig
    index_graph: CsrGraph
    labels: LabelEvidence
    bridge: LabelBridge
    egt: EgtConfig
    label_bridge: LabelBridgeConfig
    ranking: RankingConfig

    @cached_property
    def rows(self) -> SplitRows:
        """Rows of the splits."""
        return SplitRows.from_table(self.images)

    @cached_property
    def ids(self) -> list[str]:
        """Image ids of all rows."""
        return [str(image) for image in self.images["image_id"]]

    @cached_property
    def train_labels(self) -> NDArray[np.int64]:
        """Labels of the train images, -1 for none, int64 `[t]`."""
        return landmark_of(self.images)[self.rows.train]

    @cached_property
    def hubs(self) -> Hubs:
        """The index images of each label, without a query; `NO_HUBS` where no label was voted."""
        if not (self.bridge.index.label != NO_LABEL).any():
            return NO_HUBS
        bridge = replace(
            self.bridge,
            queries=Votes(np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32)),
        )
        index = self.expanded[self.rows.index]
        return label_hubs(bridge, self.label_bridge.order, index[:0], index)

    @cached_property
    def hub_labels(self) -> NDArray[np.int64]:
        """The label of each hub, int64 `[hubs]`, ascending."""
        return np.asarray(self.bridge.index.label, np.int64)[self.hubs.members[self.hubs.indptr[:-1]]]


def read_index(load: Callable[[str], Any], descriptors: Sequence[str]) -> SearchIndex:
    """Gather the index of a finished run.

    Args:
        load: gives a data set of the catalog, or parameters (`params:...`), by name.
        descriptors: names of the global descriptors of the blend.

    Raises:
        LandmarkRetrievalError: artifacts do not belong together, or were made with other parameters than
            those that `load` gives: a photo would be described in another way than the index.
    """
    images = load("image_table")
    rows = SplitRows.from_table(images)
    steps = []
    for name in descriptors:
        config = _parameters(load, name, GlobalDescriptorConfig)
        raw, whitening = load(f"{name}.raw_descriptors"), load(f"{name}.region_whitening")
        _refuse_other(name, json.loads(raw.parameters), descriptor_parameters(config))
        steps.append(DescriptorSteps(config, whitening, load(f"{name}.whitening")))
    local = _parameters(load, "local_features", LocalFeaturesConfig)
    pca, stored = load("local_features_pca"), load("local_features")
    _refuse_other("local_features", json.loads(stored.parameters), local_parameters(local, pca))
    features = LocalFeatureStore(stored)
    verification = _parameters(load, "verification", VerificationConfig)
    pairs = load("verified_pairs")
    _refuse_other("verification", pairs.attrs, pair_parameters(features, verification))
    knn = _parameters(load, "knn", KnnConfig)
    built_with = load("blend.neighbor_shards").manifest().get("parameters", {})
    _refuse_other("knn", built_with, knn.content())
    plain, expanded = load("blend.descriptors"), load("blend_qe_sv.descriptors")
    for stored in (plain, expanded):
        check_ids(stored, images)
    options, tried = load("egt_options"), load("pair_probabilities")
    egt = EgtConfig(**options["egt"])
    _, trusted = verified_graphs(
        tried["row_a"],
        tried["row_b"],
        tried["probability"].to_numpy(),
        rows.query.stop,
        rows.index.stop - rows.index.start,
        egt.trust,
    )
    return SearchIndex(
        images=images,
        steps=steps,
        blend=_parameters(load, "blend", BlendConfig),
        plain=plain.part(rows.index),
        expanded=_whole(expanded),
        local_features=local,
        local_pca=pca,
        features=features,
        knn=knn,
        verification=verification.resolve(features.extractor),
        inlier_fits=from_plain(load("inlier_fits")),
        trusted=trusted,
        expansion=_parameters(load, "expansion", ExpansionConfig),
        index_graph=load("index_graph"),
        labels=load("label_evidence"),
        bridge=load("label_bridge"),
        egt=egt,
        label_bridge=LabelBridgeConfig(**options["label_bridge"]),
        ranking=_parameters(load, "ranking", RankingConfig),
    )


def _whole(descriptors: Descriptors) -> NDArray[np.floating[Any]]:
    return descriptors.part(slice(0, len(descriptors.ids)))


def _parameters(load: Callable[[str], Any], name: str, model: type[Config]) -> Config:
    return model.model_validate(load(f"params:{name}"))


def _refuse_other(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    changes = changed_parameters(before, now)
    if changes:
        raise LandmarkRetrievalError(
            f"the index was built with other parameters ({name}: {', '.join(changes)}): search with the "
            "--env and --params of its `kedro run`, or run that again"
        )

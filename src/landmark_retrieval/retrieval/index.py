"""What a search needs of a finished run: descriptors, local features, graph, labels, and their making."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel

from landmark_retrieval.collection import SplitRows, landmark_of
from landmark_retrieval.collection.groups import GroupsConfig
from landmark_retrieval.descriptors import (
    DESCRIPTORS,
    BlendConfig,
    Descriptors,
    GlobalDescriptorConfig,
    Whitening,
    check_ids,
    descriptor_parameters,
)
from landmark_retrieval.descriptors.aggregated import Codebook
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.evaluation.ranking import RankingConfig
from landmark_retrieval.graph import CsrGraph, LabelBridge, TraversalConfig
from landmark_retrieval.graph.label_evidence import LabelEvidence
from landmark_retrieval.graph.trusted import verified_graphs
from landmark_retrieval.knn import KnnConfig, KnnGraph
from landmark_retrieval.local_features import (
    LocalFeaturesConfig,
    LocalFeatureStore,
    local_parameters,
)
from landmark_retrieval.retrieval.layers import LayeredFeatures, LayeredMatrix, Matrix
from landmark_retrieval.retrieval.variants import BLEND, Variant, choose_variants, graphs_of
from landmark_retrieval.runtime.parameters import changed_parameters
from landmark_retrieval.verification import ExpansionConfig, VerificationConfig, pair_parameters
from landmark_retrieval.verification.calibration import InlierFit, from_plain

Config = TypeVar("Config", bound=BaseModel)

PARAMETER_MODELS: Mapping[str, type[BaseModel]] = {
    **dict.fromkeys(DESCRIPTORS, GlobalDescriptorConfig),
    "blend": BlendConfig,
    "local_features": LocalFeaturesConfig,
    "verification": VerificationConfig,
    "expansion": ExpansionConfig,
    "knn": KnnConfig,
    "ranking": RankingConfig,
    "groups": GroupsConfig,
}
"""Parameters that a finished index is opened with; a run keeps them, and `variants`, for the library."""


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
class IndexedGraph:
    """What is kept of a variant that searches for itself, for the photos that are looked for in it.

    Attributes:
        descriptors: of all rows of the table, `[queries + n + train, d]`.
        neighbors: of queries and index images, re-ranked where pairs were verified.
        expansion: parameters by which a photo's descriptor is expanded before it is searched; None for none.
        index_graph: undirected graph of the index images, where a variant ranks it.
        evidence: what labels prove, likewise.
        bridge: voted labels of the index images, where a variant uses them (those of the run's queries are
            not used).
    """

    descriptors: NDArray[np.floating[Any]]
    neighbors: KnnGraph
    expansion: ExpansionConfig | None
    index_graph: CsrGraph | None
    evidence: LabelEvidence | None
    bridge: LabelBridge | None


@dataclass(frozen=True, eq=False, kw_only=True)
class RunIndex:
    """What every search in the index of a run reads; matrices may be memory-mapped.

    Attributes:
        images: the prepared image table.
        variants: of the run, in the order of the ablation.
        graphs: by name, what is kept of each variant that searches for itself.
        knn: parameters of all searches.
        compared: whether any photos were compared by local features.
        trusted: trusted edges from each query to index images, and from each index image to others.
        traversal: settled parameters of all traversals.
        ranking: parameters.
        layers: by the name of each graph, the descriptors of an index that photos were added to or deleted
            from; none for the index of a run as it is.
    """

    images: pd.DataFrame
    variants: Sequence[Variant]
    graphs: Mapping[str, IndexedGraph]
    knn: KnnConfig
    compared: bool
    trusted: tuple[CsrGraph, CsrGraph]
    traversal: TraversalConfig
    ranking: RankingConfig
    layers: Mapping[str, LayeredMatrix] = field(default_factory=dict)

    def index_rows(self, graph: str) -> Matrix:
        """Return the descriptors of the index that a graph is of, `[n, d]`."""
        if graph in self.layers:
            return self.layers[graph]
        return self.graphs[graph].descriptors[self.rows.index]

    def train_rows(self, graph: str) -> NDArray[np.floating[Any]]:
        """Return the descriptors of the train images, `[t, d]`."""
        descriptors = self.graphs[graph].descriptors
        return descriptors[len(descriptors) - (self.rows.train.stop - self.rows.train.start) :]

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


@dataclass(frozen=True, eq=False, kw_only=True)
class SearchIndex(RunIndex):
    """All artifacts of a run that a search for a photo reads.

    Attributes:
        steps: one for each global descriptor of the blend.
        blend: how they are joined.
        local_features: how local features are extracted.
        local_pca: the projection of local descriptors that was learned.
        features: stored local features of all rows of the table.
        codebook: words and axes of aggregated local features.
        aggregated: aggregated local features of the index, `[n, e]`.
        verification: parameters without open values.
        inlier_fits: what inliers prove, for either kind of pairs.
    """

    steps: Sequence[DescriptorSteps]
    blend: BlendConfig
    local_features: LocalFeaturesConfig
    local_pca: Whitening
    features: LocalFeatureStore | LayeredFeatures
    codebook: Codebook
    aggregated: Matrix
    verification: VerificationConfig
    inlier_fits: Mapping[str, InlierFit]


def read_index(load: Callable[[str], Any], descriptors: Sequence[str]) -> SearchIndex:
    """Gather what a search for photos needs of a finished run.

    Args:
        load: gives a data set of the catalog, or parameters (`params:...`), by name.
        descriptors: names of the global descriptors of the blend.

    Raises:
        LandmarkRetrievalError: artifacts do not belong together, or were made with other parameters than
            those that `load` gives: a photo would be described in another way than the index.
    """
    run = read_run_index(load)
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
    aggregated = load("aggregated.descriptors")
    check_ids(aggregated, run.images)
    return SearchIndex(
        **vars(run),
        steps=steps,
        blend=_parameters(load, "blend", BlendConfig),
        local_features=local,
        local_pca=pca,
        features=features,
        codebook=load("aggregated.codebook"),
        aggregated=aggregated.part(run.rows.index),
        verification=verification.resolve(features.extractor),
        inlier_fits=from_plain(load("inlier_fits")),
    )


def read_run_index(load: Callable[[str], Any]) -> RunIndex:
    """Gather what every search needs of a finished run, also of one that had no photos.

    Args:
        load: gives a data set of the catalog, or parameters (`params:...`), by name.

    Raises:
        LandmarkRetrievalError: artifacts do not belong together, or neighbours were searched with other
            parameters than those that `load` gives.
    """
    images, knn = load("image_table"), _parameters(load, "knn", KnnConfig)
    built_with = load("blend.neighbor_shards").manifest().get("parameters", {})
    _refuse_other("knn", built_with, knn.content())
    variants = choose_variants(load("params:variants"))
    rows, tried = SplitRows.from_table(images), load("pair_probabilities")
    traversal: TraversalConfig = load("traversal_options")
    return RunIndex(
        images=images,
        variants=variants,
        graphs={
            graph.name: _indexed(load, graph, variants, images) for graph in graphs_of((BLEND, *variants))
        },
        knn=knn,
        compared=not tried.empty,
        trusted=verified_graphs(
            tried["row_a"],
            tried["row_b"],
            tried["probability"].to_numpy(),
            rows.query.stop,
            rows.index.stop - rows.index.start,
            traversal.egt.trust,
        ),
        traversal=traversal,
        ranking=_parameters(load, "ranking", RankingConfig),
    )


def _indexed(
    load: Callable[[str], Any], graph: Variant, variants: Sequence[Variant], images: pd.DataFrame
) -> IndexedGraph:
    """Return what the variants need of a graph."""
    ranking = [variant for variant in variants if variant.graph == graph.name and variant.rank is not None]
    labelled = any(variant.uses_labels for variant in ranking)
    descriptors: Descriptors = load(f"{graph.name}.descriptors")
    check_ids(descriptors, images)
    return IndexedGraph(
        descriptors=descriptors.part(slice(0, len(images))),
        neighbors=load(f"{graph.name}.knn_graph"),
        expansion=_parameters(load, graph.expansion, ExpansionConfig) if graph.expansion else None,
        index_graph=load(f"{graph.name}.index_graph") if ranking else None,
        evidence=load(f"{graph.name}.label_evidence") if labelled else None,
        bridge=load(f"{graph.name}.label_bridge") if labelled else None,
    )


def _parameters(load: Callable[[str], Any], name: str, model: type[Config]) -> Config:
    return model.model_validate(load(f"params:{name}"))


def _refuse_other(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    changes = changed_parameters(before, now)
    if changes:
        raise LandmarkRetrievalError(
            f"the index was built with other parameters ({name}: {', '.join(changes)}): search with the "
            "--env and --params of its `kedro run`, or run that again"
        )

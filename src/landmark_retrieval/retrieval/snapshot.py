"""A finished index with its changes: what a run left, and one version of what photos came and went."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from landmark_retrieval.collection import landmark_names
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.graph import LabelBridge
from landmark_retrieval.graph.label_evidence import NEAREST, LabelEvidence
from landmark_retrieval.retrieval.changes import AddedPhoto
from landmark_retrieval.retrieval.growth import Frozen, FrozenLabels, Grown
from landmark_retrieval.retrieval.index import IndexedGraph, SearchIndex
from landmark_retrieval.retrieval.layers import LayeredFeatures
from landmark_retrieval.retrieval.stages import verify
from landmark_retrieval.retrieval.variants import BLEND
from landmark_retrieval.verification.calibration import SIDES
from landmark_retrieval.verification.pairs import pair_keys


def frozen_part(index: SearchIndex, pairs: pd.DataFrame) -> Frozen:
    """Return what stays as a run has left it.

    Args:
        index: of the run.
        pairs: `row_a`, `row_b`, `inliers` of all pairs that it compared (table rows).

    Raises:
        LandmarkRetrievalError: the run has options with which an index cannot change; names the first.
    """
    _refuse_fixed(index)
    rows = index.rows.index
    inside = pairs[(pairs["row_a"] >= rows.start) & (pairs["row_b"] < rows.stop)]
    name = expanded_graph(index)
    graph = None if name is None else index.graphs[name]
    return Frozen(
        plain=index.graphs[BLEND.name].descriptors[rows],
        expanded=None if graph is None else graph.descriptors[rows],
        aggregated=np.asarray(index.aggregated),
        pairs=inside[["row_a", "row_b"]].to_numpy(np.int64) - rows.start,
        inliers=inside["inliers"].to_numpy(np.int32),
        fit=index.inlier_fits[SIDES[1]],
        measured_floor=index.verification.floor(index.features.extractor),
        knn=index.knn,
        verification=index.verification,
        expansion=None if graph is None else graph.expansion,
        trust=index.traversal.egt.trust,
        labels=None if graph is None or name is None else _frozen_labels(index, name, graph),
    )


def expanded_graph(index: SearchIndex) -> str | None:
    """Return the name of the graph whose descriptors are expanded; None where the run made none."""
    return next((name for name, graph in index.graphs.items() if graph.expansion is not None), None)


def _frozen_labels(index: SearchIndex, name: str, graph: IndexedGraph) -> FrozenLabels | None:
    if graph.evidence is None or graph.bridge is None or not graph.evidence.fitted:
        return None
    return FrozenLabels(
        model=graph.evidence.model,
        index=graph.evidence.index,
        votes=graph.bridge.index,
        own=np.asarray(graph.neighbors.index.weights[:, :NEAREST]),
        train=index.train_rows(name),
        train_labels=index.train_labels,
    )


def _refuse_fixed(index: SearchIndex) -> None:
    """Refuse options by which one photo more would change what every other photo finds."""
    traversal, verification = index.traversal, index.verification
    expansions = [graph.expansion for graph in index.graphs.values() if graph.expansion is not None]
    problem = next(
        (
            option
            for option, fixed in (
                ("egt.weights: similarity", traversal.egt.weights != "verified"),
                ("label_bridge.precedence: always", traversal.label_bridge.precedence != "evidence"),
                ("verification.candidates: a number", verification.reach is not None),
                ("expansion.selection: nearest", any(one.selection != "verified" for one in expansions)),
                ("knn.approximate", index.knn.approximate is not None),
            )
            if fixed
        ),
        None,
    )
    if problem:
        raise LandmarkRetrievalError(
            f"an index made with {problem} cannot change photo by photo: run `kedro run` on all photos"
        )


@dataclass(frozen=True, eq=False)
class Comparison:
    """Compares photos of an index that has grown; what is known is not compared again.

    Attributes:
        features: of all photos.
        start: table row of the first index photo.
        index: parameters.
        known: inliers by `pair_keys`.
        new: those that were not known.
    """

    features: LayeredFeatures
    start: int
    index: SearchIndex
    known: dict[str, int]
    new: dict[str, int]

    def inliers(self, row: int, others: Sequence[int]) -> list[int]:
        """Return the inliers of an index row and some others."""
        rows = np.asarray(others, np.int64)
        mine = np.repeat(self.features.keys[self.start + row : self.start + row + 1], len(rows))
        keys = [key.decode() for key in pair_keys(mine, self.features.keys[self.start + rows])[0].tolist()]
        missing = [place for place, key in enumerate(keys) if key not in self.known and key not in self.new]
        if missing:
            own, key = self.features.get(self.start + row), str(mine[0])
            verification = self.index.verification
            found, _ = verify(own, key.encode(), rows[missing], self.features, self.start, verification)
            self.new.update(zip([keys[place] for place in missing], found.tolist(), strict=True))
        return [self.new[key] if key in self.new else self.known[key] for key in keys]


def comparison(index: SearchIndex, photos: Sequence[AddedPhoto], known: dict[str, int]) -> Comparison:
    """Return what compares the photos of a run and added ones.

    Args:
        index: of the run.
        photos: all that were ever added.
        known: inliers by `pair_keys`.
    """
    assert not isinstance(index.features, LayeredFeatures)
    keys = np.array([photo.key for photo in photos], dtype=str)
    added = [photo.features for photo in photos]
    features = LayeredFeatures(index.features, index.rows.index.stop, added, keys)
    return Comparison(features, index.rows.index.start, index, known, {})


def grown_index(index: SearchIndex, photos: Sequence[AddedPhoto], grown: Grown) -> SearchIndex:
    """Return the index of a run with what has become of it.

    Args:
        index: of the run.
        photos: all that were ever added.
        grown: of these.
    """
    layers = {BLEND.name: grown.plain}
    graphs, name = dict(index.graphs), expanded_graph(index)
    if name is not None and grown.expanded is not None:
        layers[name] = grown.expanded
        if grown.labels is not None:
            graphs[name] = _with_labels(graphs[name], grown)
    return dataclasses.replace(
        index,
        images=_table(index, photos),
        graphs=graphs,
        features=comparison(index, photos, {}).features,
        aggregated=grown.aggregated,
        trusted=(index.trusted[0], grown.trusted),
        layers=layers,
    )


def _with_labels(graph: IndexedGraph, grown: Grown) -> IndexedGraph:
    assert grown.labels is not None and graph.evidence is not None and graph.bridge is not None
    posterior, votes = grown.labels
    return dataclasses.replace(
        graph,
        evidence=LabelEvidence(graph.evidence.asked, posterior, graph.evidence.model),
        bridge=LabelBridge(graph.bridge.queries, votes, graph.bridge.train_label),
    )


def _table(index: SearchIndex, photos: Sequence[AddedPhoto]) -> pd.DataFrame:
    """Return the image table with added photos behind those of the index."""
    images, stop = index.images, index.rows.index.stop
    if not photos:
        return images
    numbers = {name: number for number, name in landmark_names(images).items()}
    for photo in photos:
        if photo.landmark:
            numbers.setdefault(photo.landmark, 1 + max(numbers.values(), default=0))
    added = pd.DataFrame(
        {
            "image_id": [photo.id for photo in photos],
            "path": [str(photo.picture) for photo in photos],
            "split": "index",
            "landmark_id": pd.array(
                [numbers[photo.landmark] if photo.landmark else pd.NA for photo in photos], dtype="Int64"
            ),
            "landmark": [photo.landmark or None for photo in photos],
        }
    )
    parts: list[Any] = [images.iloc[:stop], added.reindex(columns=images.columns), images.iloc[stop:]]
    table: pd.DataFrame = pd.concat(parts, ignore_index=True).astype({"landmark_id": "Int64"})
    return table

"""What all searches in a finished index have in common, and the search by a descriptor, without a photo."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from landmark_retrieval.collection import NO_LANDMARK, landmark_names, landmark_of
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.evaluation.ranking import Ranking
from landmark_retrieval.graph import LabelBridge, Step, Traversal, explain_edge, label_hubs, trusted_path
from landmark_retrieval.graph.egt import Hubs
from landmark_retrieval.graph.graph import CsrGraph
from landmark_retrieval.graph.label_bridge import vote_queries
from landmark_retrieval.graph.label_evidence import LabelEvidence, LabelPosterior, own_similarity
from landmark_retrieval.knn import NeighborLists
from landmark_retrieval.knn.matrix import content_digest
from landmark_retrieval.retrieval.evidence import TRAIN_NEIGHBORS, given_labels, label_posterior
from landmark_retrieval.retrieval.index import RunIndex
from landmark_retrieval.retrieval.layers import LayeredMatrix, Matrix, by_number
from landmark_retrieval.retrieval.stages import Searched, expand, not_verified, rank_blend, ranking_of
from landmark_retrieval.retrieval.variants import BLEND, Variant, last_stage, variant_of

Index = TypeVar("Index", bound=RunIndex)


@dataclass(frozen=True)
class Result:
    """One image that was found, and why.

    Attributes:
        row: table row.
        image_id: its id.
        landmark: name of its landmark, empty where not known.
        similarity: inner product with the (expanded) descriptor that was searched, where it is among its
            neighbours.
        path: the edges from the photo to it; a single one for a direct neighbour, none for variants that do
            not traverse the graph.
        inliers: of its match with the photo, where the two were compared.
        verified: whether the inliers reach the floor.
        proposed_by: at which place, from 1, the lists of candidates have it.
        turn: degrees, counter-clockwise, by which the photo was turned to be like the collection; keypoints
            and homographies stay those of the photo as it is.
        region: float32 `[2, 4]` left, top, right and bottom of what the inliers cover of the photo and of the
            image, where the two were compared.
    """

    row: int
    image_id: str
    landmark: str
    similarity: float | None
    path: Sequence[Step]
    inliers: int | None = None
    verified: bool = False
    proposed_by: Mapping[str, int] = dataclasses.field(default_factory=dict)
    turn: int = 0
    region: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Found:
    """What was found for one photo or descriptor.

    Attributes:
        results: best first.
        seconds: that the search took.
        label: name of the landmark that the train images voted for, empty for none.
        posterior: P(landmark) of the photo by labels as evidence; None without.
        most_inliers: most inliers of any pair that was tried.
        tried: pairs that were tried, in every orientation.
    """

    results: Sequence[Result]
    seconds: float
    label: str
    posterior: LabelPosterior | None = None
    most_inliers: int = 0
    tried: int = 0


class IndexSearch(Generic[Index]):
    """Ranks neighbours in an index by the variants of its run; keeps what is the same for all searches.

    Args:
        index: of a finished run.
    """

    def __init__(self, index: Index) -> None:
        self.index = index
        self._names = landmark_names(index.images)
        self._landmarks = landmark_of(index.images)
        self._digests: dict[int, str] = {}
        self._hubs: dict[str, Hubs] = {}
        self._index_rows = {name: index.index_rows(name) for name in index.graphs}
        self._train_rows = {name: index.train_rows(name) for name in index.graphs}

    def name_of(self, landmark: int) -> str:
        """Return the name of a landmark, empty for none."""
        return "" if landmark == NO_LANDMARK else self._names.get(landmark, str(landmark))

    def landmark_of(self, row: int) -> str:
        """Return the name of the landmark of a table row, empty for none."""
        return self.name_of(int(self._landmarks[row]))

    @property
    def names(self) -> dict[int, str]:
        """Names of all landmarks by number."""
        return self._names

    def evidence(self, variant: str | None) -> LabelEvidence | None:
        """Return what labels prove where a variant uses them as evidence."""
        chosen = self.variant(variant)
        found = self.index.graphs[chosen.graph].evidence if chosen.uses_labels else None
        return found if found is not None and found.fitted else None

    def variant(self, name: str | None) -> Variant:
        """Return a variant of the run by its name."""
        variants = self.index.variants
        chosen = last_stage(variants) if name is None else variant_of(name)
        if chosen not in variants:
            made = ", ".join(variant.name for variant in variants)
            raise LandmarkRetrievalError(f"variant '{chosen.name}' was not made by the run, only {made}")
        return chosen

    def _search(self, descriptor: NDArray[np.float32], rows: Matrix, k: int | None = None) -> NeighborLists:
        config = self.index.knn if k is None else self.index.knn.model_copy(update={"k": k})
        if isinstance(rows, LayeredMatrix):
            return rows.search(descriptor, config)
        digest = None
        if config.approximate is not None:
            # A run's matrix is large: read for its digest once, not with every photo.
            digest = self._digests.get(id(rows)) or content_digest(rows)
            self._digests[id(rows)] = digest
        return rank_blend(descriptor, rows, config, digest)

    def _ranked(
        self,
        variant: Variant,
        neighbors: NeighborLists,
        searched: NeighborLists,
        descriptor: NDArray[Any],
        trusted: tuple[CsrGraph, CsrGraph] | None,
        results: int,
        own: int = -1,
    ) -> tuple[list[Result], str, LabelPosterior | None]:
        """Return the results of a variant with their paths, the name of the label it used, and P(label).

        Args:
            variant: by which is ranked.
            neighbors: `[1, k]` neighbours of the descriptor, re-ranked where pairs were verified.
            searched: `[1, k]` as they were found, with their similarities.
            descriptor: `[1, d]` that was searched.
            trusted: trusted edges of what is searched for and of the index; None for none at all.
            results: most results.
            own: index row of what is searched for, which it does not find; -1 for none.
        """
        found, bridge, posterior = self._rank(variant, neighbors, descriptor, trusted, own)
        rows = ranking_of(found, self.index.ranking.length).rows[0, :results]
        traversal = found if isinstance(found, Traversal) else None
        shown = [
            self._result(position, int(row), searched, traversal, bridge)
            for position, row in enumerate(rows)
            if row >= 0
        ]
        label = self.name_of(NO_LANDMARK if bridge is None else int(bridge.queries.label[0]))
        return shown, label, posterior

    def _rank(
        self,
        variant: Variant,
        neighbors: NeighborLists,
        descriptor: NDArray[Any],
        trusted: tuple[CsrGraph, CsrGraph] | None,
        own: int,
    ) -> tuple[NeighborLists | Traversal | Ranking, LabelBridge | None, LabelPosterior | None]:
        """Return the ranking by a variant, the labels that it used, the photo's among them, and P(label)."""
        graph = self.index.graphs[variant.graph]
        if variant.rank is None or graph.index_graph is None:
            return neighbors, None, None
        rows, options = by_number(self._index_rows[variant.graph]), self.index.traversal
        itself = None if own < 0 else np.array([own], np.int64)
        searched = Searched(neighbors, graph.index_graph, options, descriptor, rows, trusted, own=itself)
        searched = dataclasses.replace(searched, index_neighbors=graph.neighbors.index)
        if not variant.uses_labels or graph.bridge is None or graph.evidence is None:
            return variant.rank(searched), None, None
        posterior = None
        config, train, labels = options.label_bridge, self._train_rows[variant.graph], self.index.train_labels
        if config.precedence == "always":
            nearest = self._search(descriptor, train, max(1, min(config.most_votes, len(train))))
            votes = vote_queries(nearest, labels, config)
            if variant.graph not in self._hubs:
                self._hubs[variant.graph] = label_hubs(graph.bridge, config, rows)
            searched = dataclasses.replace(searched, hubs=self._hubs[variant.graph], votes=votes)
        elif not graph.evidence.fitted:
            return variant.rank(searched), None, None
        else:
            nearest = self._search(descriptor, train, max(1, min(TRAIN_NEIGHBORS, len(train))))
            similarity, model = own_similarity(neighbors.weights), graph.evidence.model
            posterior = label_posterior(nearest, similarity, labels, model)
            votes = given_labels(posterior.given(options.egt.trust), nearest, labels)
            evidence = dataclasses.replace(graph.evidence, asked=posterior)
            searched = dataclasses.replace(searched, evidence=evidence)
        return variant.rank(searched), dataclasses.replace(graph.bridge, queries=votes), posterior

    def _result(
        self,
        position: int,
        row: int,
        searched: NeighborLists,
        traversal: Traversal | None,
        bridge: LabelBridge | None,
    ) -> Result:
        """Return the result at a position of the ranking, an index row."""
        rows = self.index.rows
        here = np.flatnonzero(searched.neighbors[0] == row)
        edges = [] if traversal is None else trusted_path(traversal, 0, position)
        return Result(
            row=rows.index.start + row,
            image_id=self.index.ids[rows.index.start + row],
            landmark=self.landmark_of(rows.index.start + row),
            similarity=float(searched.weights[0, here[0]]) if len(here) else None,
            path=[
                explain_edge(edge, 0, rows.index.start, rows.train.start, bridge, self.names)
                for edge in edges
            ],
        )


class DescriptorSearch(IndexSearch[RunIndex]):
    """Finds what is like a descriptor, or like an image of the table, in an index; no photo is read."""

    def find(self, descriptor: NDArray[Any], results: int = 10, variant: str | None = None) -> Found:
        """Find the images of the index that are like a descriptor, by the steps of a query of the run.

        Nothing is verified, as there are no local features: where the run verified, the descriptor is
        searched as it is; where it did not, the nearest images expand it, as those of the run.

        Args:
            descriptor: `[d]` of the first variant's descriptors, of any length but 0.
            results: most results.
            variant: whose ranking is wanted, one of the run's; None takes the one with most stages.

        Raises:
            LandmarkRetrievalError: the descriptor does not fit, or the run did not make the variant.
        """
        index, chosen = self.index, self.variant(variant)
        start = time.perf_counter()
        plain = self._index_rows[BLEND.name]
        query = _unit_row(descriptor, plain.shape[1])
        neighbors = self._search(query, plain)
        graph = index.graphs[chosen.graph]
        if graph.expansion is not None:
            if not index.compared:
                nearest = graph.expansion.by_nearest()
                query = np.asarray(expand(query, by_number(plain), neighbors, not_verified(1), nearest))
            neighbors = self._search(query, self._index_rows[chosen.graph])
        trusted = None
        if index.compared:
            nobody = CsrGraph(np.zeros(2, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32))
            trusted = nobody, index.trusted[1]
        found = self._ranked(chosen, neighbors, neighbors, query, trusted, results)
        return Found(found[0], time.perf_counter() - start, *found[1:])

    def find_known(self, image_id: str, results: int = 10, variant: str | None = None) -> Found:
        """Find what is like an image of the table, other than itself: of a query, the ranking of the run.

        Args:
            image_id: its id.
            results: most results.
            variant: whose ranking is wanted, one of the run's; None takes the one with most stages.

        Raises:
            LandmarkRetrievalError: the table has no such image, or the run did not make the variant.
        """
        index, chosen = self.index, self.variant(variant)
        if image_id not in index.ids:
            raise LandmarkRetrievalError(
                f"'{image_id}' is no image of the table; its ids look like '{index.ids[0]}'"
            )
        row, rows = index.ids.index(image_id), index.rows
        if row >= rows.train.start:
            return self.find(index.graphs[BLEND.name].descriptors[row], results, variant)
        start = time.perf_counter()
        graph, of_query = index.graphs[chosen.graph], row < rows.query.stop
        lists = graph.neighbors.queries if of_query else graph.neighbors.index
        at = row if of_query else row - rows.index.start
        edges = index.trusted[0 if of_query else 1]
        targets, weights = edges.neighbors(at)
        trusted = (
            (CsrGraph(np.array([0, len(targets)], np.int64), targets, weights), index.trusted[1])
            if index.compared
            else None
        )
        near = lists[at : at + 1]
        query = graph.descriptors[row : row + 1]
        own = -1 if of_query else at
        found = self._ranked(chosen, near, near, query, trusted, results, own)
        return Found(found[0], time.perf_counter() - start, *found[1:])


def _unit_row(descriptor: NDArray[Any], dimensions: int) -> NDArray[np.float32]:
    """Return a descriptor as float32 `[1, d]` of unit length."""
    row = np.asarray(descriptor, np.float64).reshape(1, -1)
    if row.shape[1] != dimensions:
        raise LandmarkRetrievalError(
            f"a descriptor of {row.shape[1]} numbers does not fit an index of {dimensions}: describe it as "
            "the images of the index"
        )
    length = np.linalg.norm(row)
    if not np.isfinite(length) or length == 0:
        raise LandmarkRetrievalError(
            "a descriptor is zero or holds NaN or infinity, so nothing is like it: describe the image again"
        )
    return (row / length).astype(np.float32)

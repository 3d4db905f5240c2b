"""The steps of a search: descriptors, nearest neighbours, verification, expansion, traversal."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from landmark_retrieval.collection import NO_LANDMARK, landmark_names, landmark_of
from landmark_retrieval.descriptors import Descriptors, blend, build_model, describe_images, whiten_rows
from landmark_retrieval.descriptors.extraction import Undescribed
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.evaluation.ablation import VARIANTS
from landmark_retrieval.graph import LabelBridge, Step, Traversal, explain_edge, trusted_path, vote_labels
from landmark_retrieval.graph.egt import NO_HUBS, Hubs, explore_exploit_lists
from landmark_retrieval.graph.graph import as_lists
from landmark_retrieval.graph.label_bridge import hubs_of
from landmark_retrieval.graph.label_evidence import own_similarity
from landmark_retrieval.graph.label_ranking import rank_by_labels
from landmark_retrieval.graph.trusted import rank_trusted, verified_graphs
from landmark_retrieval.images import Source, UnreadableImageError, load_image, photo_keys
from landmark_retrieval.knn.matrix import content_digest
from landmark_retrieval.knn.neighbors import NeighborLists
from landmark_retrieval.knn.search import check_inputs, search_checked
from landmark_retrieval.local_features.extraction import build_extractor, extract_features
from landmark_retrieval.retrieval.evidence import TRAIN_NEIGHBORS, given_labels, label_posterior
from landmark_retrieval.retrieval.index import SearchIndex
from landmark_retrieval.verification import expand, neighbor_inliers, rerank
from landmark_retrieval.verification.calibration import NEVER, SIDES, InlierFit
from landmark_retrieval.verification.pairs import pair_keys, pair_seed, verify_pair

LABELLED = VARIANTS[-1]
TRAVERSED = VARIANTS[2:]


@dataclass(frozen=True)
class Result:
    """One image that was found, and why.

    Attributes:
        row: table row.
        image_id: its id.
        landmark: name of its landmark, empty where not known.
        similarity: inner product with the photo's (expanded) descriptor, where it is among its neighbours.
        inliers: of its match with the photo, where the two were compared.
        verified: whether the inliers reach the floor.
        path: the edges from the photo to it; a single one for a direct neighbour, none for variants that do
            not traverse the graph.
    """

    row: int
    image_id: str
    landmark: str
    similarity: float | None
    inliers: int | None
    verified: bool
    path: Sequence[Step]


@dataclass(frozen=True)
class Found:
    """What was found for one photo.

    Attributes:
        results: best first.
        seconds: that the search took.
        label: name of the landmark that the train images voted for, empty for none.
    """

    results: Sequence[Result]
    seconds: float
    label: str


class PhotoSearch:
    """Finds photos in an index; keeps what is the same for all of them.

    Args:
        index: of a finished run.
    """

    def __init__(self, index: SearchIndex) -> None:
        self.index = index
        self._names = landmark_names(index.images)
        self._landmarks = landmark_of(index.images)
        self._expanded = index.expanded[index.rows.index]
        self._train = index.expanded[index.rows.train]
        self._digests: dict[int, str] = {}
        # Networks are loaded here and not with the first photo.
        for steps in index.steps:
            build_model(steps.config, steps.region_whitening)
        build_extractor(index.local_features.extractor)

    def find(self, photo: Source, results: int = 10, variant: str = LABELLED) -> Found:
        """Find the images of the index that show what a photo shows.

        The ranking is that which the same photo gets as a query of the run.

        Args:
            photo: an image file.
            results: most results.
            variant: stages to apply, one of `evaluation.ablation.VARIANTS`.

        Raises:
            UnreadableImageError: the photo cannot be read.
            LandmarkRetrievalError: the variant is not known.
        """
        if variant not in VARIANTS:
            raise LandmarkRetrievalError(f"variant '{variant}' is not known; there are {', '.join(VARIANTS)}")
        start = time.perf_counter()
        descriptor = self.describe(photo)
        nearest = self._search(descriptor, self.index.plain, self.index.knn.k)
        if variant == VARIANTS[0]:
            pairs, neighbors = _no_pairs(), nearest
        else:
            pairs = self._verify(photo, nearest)
            descriptor = self._expand(descriptor, nearest, pairs)
            neighbors = self._search(descriptor, self._expanded, self.index.knn.k)
        ranked = rerank(neighbors, self._inliers(neighbors, pairs), self._floor("rerank"))
        ranking = ranked.neighbors
        traversal: Traversal | None = None
        bridge: LabelBridge | None = None
        if variant in TRAVERSED:
            traversal, bridge = self._traverse(descriptor, ranked, pairs, variant == LABELLED)
            ranking = traversal.ranking
        rows = ranking[0, : min(results, self.index.ranking.length)]
        explain = _Explanations(self, neighbors, pairs, traversal, bridge)
        found = [explain.result(position, int(row)) for position, row in enumerate(rows) if row >= 0]
        label = NO_LANDMARK if bridge is None else int(bridge.queries.label[0])
        return Found(found, time.perf_counter() - start, self.name_of(label))

    def describe(self, photo: Source) -> NDArray[np.float32]:
        """Return the blended descriptor of a photo, float32 `[1, d]`.

        Raises:
            UnreadableImageError: the photo cannot be read.
        """
        parts = []
        for steps in self.index.steps:
            raw, reasons = describe_images([photo], steps.config, steps.region_whitening)
            if isinstance(reasons[0], Undescribed):
                raise UnreadableImageError(reasons[0].reason)
            whitened = whiten_rows(raw, steps.whitening, steps.config.storage)
            parts.append(Descriptors(np.array([""]), whitened))
        return np.asarray(blend(parts, self.index.blend).matrix).astype(np.float32)

    def name_of(self, landmark: int) -> str:
        """Return the name of a landmark, empty for none."""
        return "" if landmark == NO_LANDMARK else self._names.get(landmark, str(landmark))

    def landmark_of(self, row: int) -> str:
        """Return the name of the landmark of a table row, empty for none."""
        return self.name_of(int(self._landmarks[row]))

    @property
    def floor(self) -> int:
        """Inliers from which a match with a photo counts as verified."""
        return self._floor("rerank")

    @property
    def names(self) -> dict[int, str]:
        """Names of all landmarks by number."""
        return self._names

    @property
    def _fit(self) -> InlierFit:
        """What inliers of the photo and an index photo prove; without queries, those of index photos."""
        return self.index.inlier_fits[SIDES[1] if self.index.rows.among_themselves else SIDES[0]]

    def _floor(self, use: Literal["rerank", "expand"]) -> int:
        return self._fit.floor(getattr(self.index.verification.calibration, use)) or NEVER

    def _search(self, descriptor: NDArray[np.float32], rows: NDArray[np.floating], k: int) -> NeighborLists:
        config = self.index.knn.model_copy(update={"k": k})
        excluded = check_inputs(descriptor, rows, None)
        digest = None
        if config.approximate is not None:
            # A run's matrix is large: read for its digest once, not with every photo.
            digest = self._digests.get(id(rows)) or content_digest(rows)
            self._digests[id(rows)] = digest
        # Any first row but 0: only the first block of a run's search is worth a line in the log.
        return search_checked(descriptor, rows, config, excluded, "photo", 1, digest)

    def _verify(self, photo: Source, nearest: NeighborLists) -> pd.DataFrame:
        """Return the inliers of the photo (row 0) and its leading neighbours (rows from 1)."""
        index, config = self.index, self.index.verification
        features = extract_features(load_image(photo), index.local_features, index.local_pca)
        top = [int(row) for row in nearest.neighbors[0, : config.candidates] if row >= 0]
        inliers = []
        rows = np.array(top, np.int64) + index.rows.index.start
        of_photo = np.repeat(photo_keys([photo]), len(top))
        with threadpool_limits(1):
            keys, swapped = pair_keys(of_photo, index.features.keys[rows])
            for row, key, other_first in zip(rows.tolist(), keys.tolist(), swapped.tolist(), strict=True):
                other, seed = index.features.get(row), pair_seed(config.seed, key.decode())
                first, second = (other, features) if other_first else (features, other)
                inliers.append(verify_pair(first, second, config, seed).inliers)
        return pd.DataFrame(
            {"row_a": np.zeros(len(top), np.int64), "row_b": np.array(top, np.int64) + 1, "inliers": inliers}
        )

    def _inliers(self, neighbors: NeighborLists, pairs: pd.DataFrame) -> NDArray[np.int32]:
        return neighbor_inliers(neighbors.neighbors, 0, 1, pairs, self.index.verification.candidates)

    def _expand(
        self, descriptor: NDArray[np.float32], nearest: NeighborLists, pairs: pd.DataFrame
    ) -> NDArray[np.float32]:
        config = self.index.expansion
        if not config.query_side:
            return descriptor
        inliers = self._inliers(nearest, pairs)
        plain, floor = self.index.plain, self._floor("expand")
        return expand(descriptor, plain, nearest, inliers, config, floor)

    def _traverse(
        self, descriptor: NDArray[np.float32], ranked: NeighborLists, pairs: pd.DataFrame, labelled: bool
    ) -> tuple[Traversal, LabelBridge | None]:
        """Return the traversal from the photo, and the labels that it used."""
        index = self.index
        always = index.label_bridge.precedence == "always"
        if labelled and always:
            bridge, hubs = self._vote(descriptor)
            return explore_exploit_lists(as_lists(ranked), index.index_graph, index.egt, hubs), bridge
        if index.egt.weights == "similarity":
            traversal = explore_exploit_lists(as_lists(ranked), index.index_graph, index.egt)
        else:
            probabilities = self._fit.probabilities(pairs["inliers"])
            count = len(self._expanded)
            edges, _ = verified_graphs(
                pairs["row_a"], pairs["row_b"], probabilities, 1, count, index.egt.trust
            )
            traversal = rank_trusted(edges, index.trusted, ranked, descriptor, self._expanded, index.egt)
        if not labelled or not index.labels.fitted:
            return traversal, None
        most = max(1, min(TRAIN_NEIGHBORS, len(self._train)))
        nearest = self._search(descriptor, self._train, most)
        own, model = own_similarity(ranked.weights), index.labels.model
        posterior = label_posterior(nearest, own, index.train_labels, model)
        votes = given_labels(posterior.given(index.egt.trust), nearest, index.train_labels)
        sides = (posterior, index.labels.index)
        traversal = rank_by_labels(
            traversal, ranked, own, *sides, model, descriptor, self._expanded, index.egt.trust
        )
        return traversal, dataclasses.replace(index.bridge, queries=votes)

    def _vote(self, descriptor: NDArray[np.float32]) -> tuple[LabelBridge, Hubs]:
        """Return the labels of the index with that of the photo, and the hubs with the photo's."""
        index, config = self.index, self.index.label_bridge
        votes = max(1, min(max(config.query_votes, config.index_votes), len(self._train)))
        nearest = self._search(descriptor, self._train, votes)
        voted = vote_labels(nearest, index.train_labels, config.query_votes, config.min_similarity)
        bridge = dataclasses.replace(index.bridge, queries=voted)
        hubs = index.hubs
        if hubs is NO_HUBS:
            return bridge, hubs
        query_hub = hubs_of(voted.label, index.hub_labels)
        queries = descriptor if hubs.query_descriptors.shape[1] else hubs.query_descriptors
        return bridge, dataclasses.replace(hubs, query_hub=query_hub, query_descriptors=queries)


@dataclass(frozen=True, eq=False)
class _Explanations:
    """Looks up why each result was found."""

    search: PhotoSearch
    neighbors: NeighborLists
    pairs: pd.DataFrame
    traversal: Traversal | None
    bridge: LabelBridge | None

    def result(self, position: int, row: int) -> Result:
        """Return the result at a position of the ranking, an index row."""
        index = self.search.index
        table_row = index.rows.index.start + row
        here = np.flatnonzero(self.neighbors.neighbors[0] == row)
        verified = self.pairs.loc[self.pairs["row_b"] == row + 1, "inliers"]
        inliers = int(verified.iloc[0]) if len(verified) else None
        path: list[Step] = []
        if self.traversal is not None:
            path = [
                explain_edge(
                    edge, 0, index.rows.index.start, index.rows.train.start, self.bridge, self.search.names
                )
                for edge in trusted_path(self.traversal, 0, position)
            ]
        return Result(
            row=table_row,
            image_id=index.ids[table_row],
            landmark=self.search.landmark_of(table_row),
            similarity=float(self.neighbors.weights[0, here[0]]) if len(here) else None,
            inliers=inliers,
            verified=inliers is not None and inliers >= self.search.floor,
            path=path,
        )


def _no_pairs() -> pd.DataFrame:
    return pd.DataFrame({"row_a": [], "row_b": [], "inliers": []}, dtype=np.int64)

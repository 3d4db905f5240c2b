"""The steps of a search: descriptors, nearest neighbours, verification, expansion, traversal."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from landmark_retrieval.descriptors import Descriptors, blend, build_model, describe_images, whiten_rows
from landmark_retrieval.descriptors.aggregated import describe_features
from landmark_retrieval.descriptors.extraction import Undescribed
from landmark_retrieval.graph.graph import CsrGraph
from landmark_retrieval.graph.trusted import verified_graphs
from landmark_retrieval.images import (
    TURNS,
    Source,
    UnreadableImageError,
    load_image,
    photo_keys,
    turned_source,
)
from landmark_retrieval.knn import KnnGraph, NeighborLists
from landmark_retrieval.local_features import LocalFeatures
from landmark_retrieval.local_features.extraction import build_extractor, extract_features
from landmark_retrieval.retrieval.index import SearchIndex
from landmark_retrieval.retrieval.layers import Matrix, by_number
from landmark_retrieval.retrieval.search import Found, IndexSearch, Result
from landmark_retrieval.retrieval.stages import (
    Verified,
    compare_candidates,
    expand,
    rerank,
    verify,
)
from landmark_retrieval.retrieval.variants import BLEND
from landmark_retrieval.verification.calibration import NEVER, SIDES, InlierFit, reliable_pairs
from landmark_retrieval.verification.candidates import AGGREGATED, admit_verified
from landmark_retrieval.verification.candidates import BLEND as BLEND_LIST
from landmark_retrieval.verification.orientation import CANDIDATES, likeliest_partners, settle


@dataclass(frozen=True, eq=False)
class DescribedPhoto:
    """A photo as the index holds its own.

    Attributes:
        key: what results of it are kept by (`images.photo_keys`).
        turn: degrees, counter-clockwise, by which it is turned.
        descriptor: float32 `[1, d]`.
        aggregated: float16 `[1, e]` aggregated local features.
        features: its local features.
    """

    key: str
    turn: int
    descriptor: NDArray[np.float32]
    aggregated: NDArray[np.float16]
    features: LocalFeatures


@dataclass(frozen=True, eq=False)
class _Standing:
    """A photo as it stands.

    Attributes:
        source: the photo, turned where it has to be.
        features: its local features.
        aggregated: of these, float16 `[1, e]`.
        proposals: index rows that resemble it by aggregated local features, `[1, k]`.
        turn: degrees by which it is turned.
        inliers: with index rows that it was verified with.
        regions: that these inliers cover (`stages.verify`).
        turned_tries: pairs that were tried in other orientations.
    """

    source: Source
    features: LocalFeatures
    aggregated: NDArray[np.float16]
    proposals: NeighborLists
    turn: int = 0
    inliers: dict[int, int] = field(default_factory=dict)
    regions: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    turned_tries: int = 0


class PhotoSearch(IndexSearch[SearchIndex]):
    """Finds photos in an index; keeps what is the same for all of them.

    Args:
        index: of a finished run.
    """

    def __init__(self, index: SearchIndex) -> None:
        super().__init__(index)
        # Networks are loaded here and not with the first photo.
        for steps in index.steps:
            build_model(steps.config, steps.region_whitening)
        build_extractor(index.local_features.extractor)

    def find(self, photo: Source, results: int = 10, variant: str | None = None) -> Found:
        """Find the images of the index that show what a photo shows.

        The ranking is that which the same photo gets as a query of the run.

        Args:
            photo: an image file.
            results: most results.
            variant: whose ranking is wanted, one of the run's; None takes the one with most stages.

        Raises:
            UnreadableImageError: the photo cannot be read.
            LandmarkRetrievalError: the variant is not known, or the run did not make it.
        """
        index, chosen = self.index, self.variant(variant)
        start = time.perf_counter()
        standing = self._stand(photo)
        descriptor = self.describe(standing.source)
        plain = self._index_rows[BLEND.name]
        neighbors = nearest = self._search(descriptor, plain)
        graph, verified, ranked = index.graphs[chosen.graph], None, neighbors
        if graph.expansion is not None or chosen.rank is not None:
            verified, nearest = self._verify(standing, neighbors, descriptor, plain)
        if graph.expansion is not None and verified is not None:
            descriptor = np.asarray(expand(descriptor, by_number(plain), nearest, verified, graph.expansion))
            fits, least = dict.fromkeys(SIDES, self.fit), index.verification.calibration.rerank
            pairs = reliable_pairs(verified.pairs, 1, fits, least)
            reliable = dataclasses.replace(verified, pairs=pairs, floors=(1, 1))
            searched = self._index_rows[chosen.graph]
            neighbors = self._admit(self._search(descriptor, searched), descriptor, searched, reliable)
            ranked = rerank(neighbors, reliable)
        trusted = None if verified is None else (self._trusted(verified), index.trusted[1])
        shown, label, posterior = self._ranked(chosen, ranked, neighbors, descriptor, trusted, results)
        explain = _Explanations(self, standing, nearest, verified)
        return Found(
            [explain.result(one) for one in shown],
            time.perf_counter() - start,
            label,
            posterior,
            max(standing.inliers.values(), default=0),
            len(standing.inliers) + standing.turned_tries,
        )

    def describe_photo(self, photo: Source) -> DescribedPhoto:
        """Describe a photo that is to be added to the index, turned as it stands in it.

        Raises:
            UnreadableImageError: the photo cannot be read.
        """
        standing = self._stand(photo)
        (key,) = photo_keys([standing.source]).tolist()
        return DescribedPhoto(
            key, standing.turn, self.describe(standing.source), standing.aggregated, standing.features
        )

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

    @property
    def floor(self) -> int:
        """Inliers from which a match with a photo counts as verified."""
        return self._floors(self.index.verification.calibration.rerank)[0]

    @property
    def fit(self) -> InlierFit:
        """What inliers of the photo and an index photo prove; without queries, those of index photos."""
        return self.index.inlier_fits[SIDES[1] if self.index.rows.among_themselves else SIDES[0]]

    def _floors(self, probability: float) -> tuple[int, int]:
        """Return the inliers from which a match of the photo is as probable as this."""
        floor = self.fit.floor(probability) or NEVER
        return floor, floor

    def _trusted(self, verified: Verified) -> CsrGraph:
        """Return the trusted edges of the photo."""
        pairs, count = verified.pairs, len(self.index.trusted[1])
        probabilities = self.fit.probabilities(pairs["inliers"])
        trust = self.index.traversal.egt.trust
        return verified_graphs(pairs["row_a"], pairs["row_b"], probabilities, 1, count, trust)[0]

    @property
    def measured_floor(self) -> int:
        """Inliers from which a pair counts while candidates are looked for, before anything is calibrated."""
        return self.index.verification.floor(self.index.features.extractor)

    def _stand(self, photo: Source) -> _Standing:
        """Return a photo as it stands: turned where only that finds a partner among the likeliest."""
        index = self.index
        upright = self._compare(photo)
        rows = upright.proposals.neighbors[0, :CANDIDATES]
        if not index.verification.turns or not len(rows) or (rows < 0).all():
            return upright
        if max(self._inliers_of(upright, rows[rows >= 0].tolist()).values()) >= self.measured_floor:
            return upright
        turned = [self._compare(turned_source(photo, turn)) for turn in TURNS]
        found = NeighborLists(
            np.concatenate([one.proposals.neighbors for one in turned]),
            np.concatenate([one.proposals.weights for one in turned]),
        )
        at, partners = likeliest_partners(found)
        inliers = [
            self._inliers_of(turned[turn], [row])[row]
            for turn, row in zip(at.tolist(), partners.tolist(), strict=True)
        ]
        turn = int(settle(at, np.array(inliers, np.int32), 1, self.measured_floor)[0])
        chosen = turned[list(TURNS).index(turn)] if turn else upright
        tries = sum(len(one.inliers) for one in (upright, *turned)) - len(chosen.inliers)
        return dataclasses.replace(chosen, turn=turn, turned_tries=tries)

    def _compare(self, source: Source) -> _Standing:
        """Return the local features of a photo and whom they propose."""
        index = self.index
        features = extract_features(load_image(source), index.local_features, index.local_pca).upright(source)
        vector = describe_features(features, index.codebook)
        if vector.shape[1] == 0:
            nobody = NeighborLists(np.zeros((1, 0), np.int32), np.zeros((1, 0), np.float32))
            return _Standing(source, features, vector, nobody)
        return _Standing(source, features, vector, self._search(vector.astype(np.float32), index.aggregated))

    def _inliers_of(self, photo: _Standing, rows: list[int]) -> dict[int, int]:
        """Return the inliers of a photo and some index rows; each pair is verified once."""
        index = self.index
        new = np.array([row for row in rows if row not in photo.inliers], np.int64)
        (key,) = photo_keys([photo.source])
        start = index.rows.index.start
        found, regions = verify(photo.features, key, new, index.features, start, index.verification)
        photo.inliers.update(zip(new.tolist(), found.tolist(), strict=True))
        photo.regions.update(zip(new.tolist(), regions, strict=True))
        return {row: photo.inliers[row] for row in rows}

    def _verify(
        self,
        photo: _Standing,
        nearest: NeighborLists,
        descriptor: NDArray[np.float32],
        plain: Matrix,
    ) -> tuple[Verified, NeighborLists]:
        """Return the inliers of the photo and whom lists propose, and its neighbours with all verified ones.

        The floors are those of expansion.
        """
        config = self.index.verification

        def inliers_of(rows: Sequence[int]) -> list[int]:
            found = self._inliers_of(photo, list(rows))
            return [found[row] for row in rows]

        lists = {BLEND_LIST: nearest, AGGREGATED: photo.proposals}
        pairs = compare_candidates(lists, inliers_of, config, self.measured_floor)
        verified = Verified(pairs, 1, config.reach, self._floors(config.calibration.expand))
        return verified, self._admit(nearest, descriptor, plain, verified)

    def _admit(
        self,
        lists: NeighborLists,
        descriptor: NDArray[np.float32],
        rows: Matrix,
        verified: Verified,
    ) -> NeighborLists:
        """Return the lists with all who are verified, where whoever is proposed may be re-ranked."""
        if verified.candidates is not None:
            return lists
        graph = KnnGraph(lists, lists[:0])
        return admit_verified(graph, descriptor, by_number(rows), verified.pairs, verified.floors).queries


@dataclass(frozen=True, eq=False)
class _Explanations:
    """Looks up what verification says of each result."""

    search: PhotoSearch
    photo: _Standing
    nearest: NeighborLists
    verified: Verified | None

    def result(self, found: Result) -> Result:
        """Return a result with what verification says of it."""
        row = found.row - self.search.index.rows.index.start
        inliers = self._inliers(row)
        return dataclasses.replace(
            found,
            inliers=inliers,
            verified=inliers is not None and inliers >= self.search.floor,
            proposed_by=self._proposed_by(row),
            turn=self.photo.turn,
            region=self.photo.regions.get(row),
        )

    def _inliers(self, row: int) -> int | None:
        """Return the inliers of the match with an index row, None where the two were not compared."""
        if self.verified is None:
            return None
        pairs = self.verified.pairs
        found = pairs.loc[pairs["row_b"] == row + 1, "inliers"]
        return int(found.iloc[0]) if len(found) else None

    def _proposed_by(self, row: int) -> dict[str, int]:
        """Return at which place, from 1, each list of candidates has an index row."""
        lists = ((BLEND_LIST, self.nearest), (AGGREGATED, self.photo.proposals))
        places = {name: np.flatnonzero(found.neighbors[0] == row) for name, found in lists}
        return {name: int(place[0]) + 1 for name, place in places.items() if len(place)}

"""The one path through retrieval: each stage once, on arrays, for all queries of a run or for one new photo.

The pipelines call the stages node by node, the search for a photo one after the other, sweeps and the table
of query expansions in a loop. Rows of queries and of index images are counted from 0, each on their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import DTypeLike, NDArray
from threadpoolctl import threadpool_limits

from landmark_retrieval.descriptors.matrix import BlockArray, make_blocks
from landmark_retrieval.evaluation.ranking import Ranking, cut
from landmark_retrieval.graph import (
    CsrGraph,
    LabelBridge,
    Traversal,
    TraversalConfig,
    Votes,
    explore_exploit,
    explore_exploit_with_labels,
    label_hubs,
)
from landmark_retrieval.graph.egt import NO_HUBS, Hubs
from landmark_retrieval.graph.label_evidence import LabelEvidence, own_similarity
from landmark_retrieval.graph.label_ranking import rank_by_labels
from landmark_retrieval.graph.trusted import rank_trusted
from landmark_retrieval.knn import KnnConfig, NeighborLists
from landmark_retrieval.knn.search import check_inputs, search_checked
from landmark_retrieval.local_features import LocalFeatures, LocalFeatureStore
from landmark_retrieval.retrieval.layers import LayeredFeatures
from landmark_retrieval.verification import ExpansionConfig, VerificationConfig, neighbor_inliers
from landmark_retrieval.verification import expansion as query_expansion
from landmark_retrieval.verification import rerank as rerank_lists
from landmark_retrieval.verification.candidates import PLACE, CandidateList, descend, places_of
from landmark_retrieval.verification.one_pair import correspondences, pair_seed
from landmark_retrieval.verification.pairs import pair_keys

NOT_TRIED = pd.DataFrame({"row_a": [], "row_b": [], "inliers": []}, dtype="int64")
"""The pairs that were tried where images have no local features: none."""

BLOCK = 1024
"""Images expanded at a time; bounds memory (sums are kept in double precision)."""


@dataclass(frozen=True, eq=False)
class Verified:
    """What spatial verification says of queries and index images.

    Attributes:
        pairs: `row_a`, `row_b` and `inliers` of the pairs that were tried, row_a < row_b; query i is row i
            and index image j is row `queries` + j.
        queries: number of queries.
        candidates: leading neighbours of each image that may count; None for all that were tried.
        floors: inliers from which a pair of a query, and a pair of two index images, counts.
    """

    pairs: pd.DataFrame
    queries: int
    candidates: int | None
    floors: tuple[int, int]

    def inliers(self, lists: NeighborLists, of_index: bool = False) -> NDArray[np.int32]:
        """Return the inliers of the leading neighbours, int32 `[n, c]` (`verification.neighbor_inliers`).

        Args:
            lists: `[n, k]` neighbours of the queries, or of the index images.
            of_index: whether they are those of the index images.
        """
        first = self.queries if of_index else 0
        return neighbor_inliers(lists.neighbors, first, self.queries, self.pairs, self.candidates)


def not_verified(queries: int) -> Verified:
    """Return what verification says where images have no local features: nothing, so nobody is reliable.

    Args:
        queries: number of queries.
    """
    return Verified(NOT_TRIED, queries, candidates=0, floors=(1, 1))


@dataclass(frozen=True, eq=False)
class Searched:
    """What a variant ranks: some queries, their neighbours in an index, and what is known of both.

    Attributes:
        neighbors: `[q, k]` index rows nearest to each query, re-ranked by inliers where pairs were verified.
        index_graph: undirected graph of the n index images.
        config: settled options of the traversals.
        queries: `[q, d]` descriptors that were searched.
        index: `[n, d]` descriptors of the index.
        trusted: trusted edges of the queries, and of the index images (`graph.trusted.verified_graphs`); None
            where no photos were compared.
        hubs: index images of each label; `NO_HUBS` where labels are not used, or as evidence.
        votes: labels of the queries; None where labels are not used, or as evidence.
        evidence: what labels prove; None where they are not used, or always come first.
        own: int64 `[q]` the index row that is the query itself and left out, -1 for none; None for none at
            all.
        index_neighbors: `[n, k]` index rows nearest to each index image; None where no variant ranks by them.
    """

    neighbors: NeighborLists
    index_graph: CsrGraph
    config: TraversalConfig
    queries: NDArray[np.floating[Any]]
    index: NDArray[np.floating[Any]]
    trusted: tuple[CsrGraph, CsrGraph] | None = None
    hubs: Hubs = NO_HUBS
    votes: Votes | None = None
    evidence: LabelEvidence | None = None
    own: NDArray[np.int64] | None = None
    index_neighbors: NeighborLists | None = None

    def with_labels(self, bridge: LabelBridge, evidence: LabelEvidence | None = None) -> Searched:
        """Return the same with labels: those that were voted, or what labels prove, as the options say.

        Args:
            bridge: of the same queries and index.
            evidence: likewise.
        """
        config = self.config.label_bridge
        if config.precedence == "evidence":
            return replace(self, evidence=evidence)
        return replace(self, hubs=label_hubs(bridge, config, self.index), votes=bridge.queries)


def rank_blend(
    queries: NDArray[np.floating[Any]],
    index: NDArray[np.floating[Any]],
    config: KnnConfig,
    index_digest: str | None = None,
) -> NeighborLists:
    """Find the nearest index images of each query; the same search follows the expansion of descriptors.

    Runs search a whole collection by `knn.plan_knn_graph`, which gives the same lists and survives a kill.

    Args:
        queries: `[q, d]` descriptors.
        index: `[n, d]` descriptors.
        config: parameters.
        index_digest: content of the index, by which an approximate index is kept for the next search.
    """
    excluded = check_inputs(queries, index, None)
    # Any first row but 0: only the first block of a run's search is worth a line in the log.
    return search_checked(queries, index, config, excluded, "nearest neighbours", 1, index_digest)


def verify(
    photo: LocalFeatures,
    key: bytes,
    rows: NDArray[np.int64],
    index: LocalFeatureStore | LayeredFeatures,
    index_start: int,
    config: VerificationConfig,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Compare a new photo with some index images by their local features.

    Runs compare all pairs of a collection by `verification.verify_pairs`, pair by pair in the same way.

    Args:
        photo: its local features.
        key: of the photo (`images.photo_keys`), from which RANSAC derives its seeds.
        rows: int64 `[m]` index rows to compare it with.
        index: local features of all rows of the image table.
        index_start: table row of the first index image.
        config: parameters without open values.

    Returns:
        int32 `[m]` inliers; and float32 `[m, 2, 4]` left, top, right and bottom of what they cover of the
        photo and of the index image, in pixels, zeros without any.
    """
    inliers, regions = np.zeros(len(rows), np.int32), np.zeros((len(rows), 2, 4), np.float32)
    keys, swapped = pair_keys(np.repeat(np.array([key]), len(rows)), index.keys[index_start + rows])
    with threadpool_limits(1):
        for place, row in enumerate((index_start + rows).tolist()):
            other, seed = index.get(row), pair_seed(config.seed, keys[place].decode())
            both = (other, photo) if swapped[place] else (photo, other)
            matched, _, agree = correspondences(*both, config, seed)
            inliers[place] = agree.sum()
            if agree.any():
                columns = (1, 0) if swapped[place] else (0, 1)
                for side, (one, column) in enumerate(zip((photo, other), columns, strict=True)):
                    points = one.keypoints[matched[agree, column]]
                    regions[place, side] = [*points.min(axis=0), *points.max(axis=0)]
    return inliers, regions


def compare_candidates(
    lists: Mapping[str, NeighborLists],
    inliers_of: Callable[[Sequence[int]], Sequence[int]],
    config: VerificationConfig,
    min_inliers: int,
) -> pd.DataFrame:
    """Compare one photo with the index rows that lists propose, as deep as they still find.

    Args:
        lists: `[1, k]` index rows by the name of each list.
        inliers_of: gives the inliers of the photo and some index rows.
        config: parameters.
        min_inliers: inliers from which a pair counts while candidates are looked for.

    Returns:
        `row_a` (0), `row_b` (index row + 1) and `inliers` of all that were tried, and their places
        in the lists.
    """

    def compare(pairs: NDArray[np.int64]) -> pd.DataFrame:
        counts = np.array(inliers_of((pairs[:, 1] - 1).tolist()), np.int32)
        return pd.DataFrame({"row_a": pairs[:, 0], "row_b": pairs[:, 1], "inliers": counts})

    nobody = np.zeros((0, 0), np.int32)
    proposals = [
        CandidateList(name, found.neighbors, nobody, config.count_of(name)) for name, found in lists.items()
    ]
    most = None if config.budget(1) is None else sum(one.queries.shape[1] for one in proposals)
    pairs = descend(proposals, compare, min_inliers, most)
    places = places_of(proposals, pairs[["row_a", "row_b"]].to_numpy(np.int64))
    return pairs.assign(**{f"{PLACE}{name}": column for name, column in places.items()})


def expand(
    images: NDArray[np.floating[Any]],
    index: NDArray[np.floating[Any]],
    lists: NeighborLists,
    verified: Verified,
    config: ExpansionConfig,
    of_index: bool = False,
    dtype: DTypeLike = np.float32,
) -> BlockArray:
    """Expand queries or index images by their reliable neighbours, where the parameters say so.

    Args:
        images: `[n, d]` descriptors of the queries or of the index, possibly memory-mapped.
        index: `[m, d]` descriptors of the index, before expansion.
        lists: `[n, k]` nearest index rows of each image.
        verified: what verification says of them.
        config: parameters.
        of_index: whether the images are those of the index.
        dtype: type of the results' values, to which they are rounded at the end.

    Returns:
        The descriptors `[n, d]`, computed block by block whenever they are iterated; as they were where this
        side is switched off.
    """
    if not (config.database_side if of_index else config.query_side):
        return make_blocks(lambda rows: images[rows], images.shape, dtype, BLOCK)
    inliers, floor = verified.inliers(lists, of_index), verified.floors[of_index]
    return make_blocks(
        lambda rows: query_expansion.expand(images[rows], index, lists[rows], inliers[rows], config, floor),
        images.shape,
        dtype,
        BLOCK,
    )


def rerank(lists: NeighborLists, verified: Verified, of_index: bool = False) -> NeighborLists:
    """Re-rank the leading neighbours of queries or index images by their inliers, then by similarity.

    Args:
        lists: `[n, k]`.
        verified: what verification says of them.
        of_index: whether the lists are those of the index images.
    """
    return rerank_lists(lists, verified.inliers(lists, of_index), verified.floors[of_index])


def traverse(found: Searched) -> Traversal:
    """Rank by graph traversal from every query: over verified edges, or over similarities."""
    config = found.config.egt
    if config.weights == "verified" and found.trusted is not None:
        return rank_trusted(*found.trusted, found.neighbors, found.queries, found.index, config, found.own)
    return traverse_similarities(found)


def traverse_similarities(found: Searched) -> Traversal:
    """Rank by the paper's traversal over similarities, by the threshold t."""
    return explore_exploit(found.neighbors, found.index_graph, found.config.egt, found.own)


def traverse_with_labels(found: Searched) -> Traversal:
    """Rank with labels: as evidence behind what a traversal trusts, or before everything in a traversal."""
    if found.votes is None:
        plain, labels = traverse(found), found.evidence
        if labels is None or not labels.fitted:
            return plain
        return rank_by_labels(
            plain,
            found.neighbors,
            own_similarity(found.neighbors.weights),
            labels.asked,
            labels.index,
            labels.model,
            found.queries,
            found.index,
            found.config.egt.trust,
            found.own,
        )
    return explore_exploit_with_labels(
        found.neighbors,
        found.index_graph,
        found.hubs,
        found.votes,
        found.config.egt,
        found.queries,
        found.own,
    )


def ranking_of(found: NeighborLists | Traversal | Ranking, length: int) -> Ranking:
    """Return what a stage found as a ranking of a given length."""
    if isinstance(found, Ranking):
        return cut(found.rows, length)
    return cut(found.ranking if isinstance(found, Traversal) else found.neighbors, length)

"""What a finished index becomes when photos are added and deleted, as a function of what is there.

Whitening, codebook, what inliers and labels prove, and which pairs of its own photos a run compared stay as
the run left them. An added photo is compared with whom its own lists propose, as a query is; each of these
pairs counts for both photos. Everything else follows from the photos that are there and from nothing else:
the same photos give the same index, in whatever order they came and went.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landmark_retrieval.graph import CsrGraph
from landmark_retrieval.graph.label_bridge import NO_LABEL, Votes
from landmark_retrieval.graph.label_evidence import NEAREST, LabelModel, LabelPosterior, own_similarity
from landmark_retrieval.graph.trusted import verified_graphs
from landmark_retrieval.knn import KnnConfig, NeighborLists, search
from landmark_retrieval.retrieval.evidence import TRAIN_NEIGHBORS, given_labels, label_posterior
from landmark_retrieval.retrieval.layers import LayeredMatrix, by_number, merge
from landmark_retrieval.retrieval.stages import compare_candidates
from landmark_retrieval.verification import ExpansionConfig, VerificationConfig
from landmark_retrieval.verification import expansion as query_expansion
from landmark_retrieval.verification.calibration import NEVER, InlierFit
from landmark_retrieval.verification.candidates import AGGREGATED, BLEND, inner_products

ROUNDING = 1e-3
"""More than what a float32 product of unit vectors errs by: who is this near is looked at exactly."""

BLOCK = 8192

Inliers = Callable[[int, Sequence[int]], Sequence[int]]
"""Gives the inliers of an index row and of some others."""


@dataclass(frozen=True, eq=False)
class FrozenLabels:
    """What labels prove in the run.

    Attributes:
        model: how it was fitted.
        index: posteriors of the run's index photos.
        votes: their labels.
        own: float32 `[n, 3]` similarities of their three nearest index photos, falling.
        train: `[t, d]` descriptors of the train photos.
        train_labels: int64 `[t]`, -1 for none.
    """

    model: LabelModel
    index: LabelPosterior
    votes: Votes
    own: NDArray[np.float32]
    train: NDArray[np.floating[Any]]
    train_labels: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Frozen:
    """What a run leaves as it is.

    Attributes:
        plain: `[n, d]` descriptors of the index.
        expanded: the same, expanded; None where the run did not expand.
        aggregated: `[n, e]` aggregated local features.
        pairs: int64 `[p, 2]` index rows that the run compared.
        inliers: int32 `[p]` of these.
        fit: what inliers of two index photos prove.
        measured_floor: inliers from which a pair counts while candidates are looked for.
        knn: parameters of searches.
        verification: parameters without open values.
        expansion: parameters; None for none.
        trust: probability from which an edge, or a label, is trusted.
        labels: None where labels are not used.
    """

    plain: NDArray[np.floating[Any]]
    expanded: NDArray[np.floating[Any]] | None
    aggregated: NDArray[np.floating[Any]]
    pairs: NDArray[np.int64]
    inliers: NDArray[np.int32]
    fit: InlierFit
    measured_floor: int
    knn: KnnConfig
    verification: VerificationConfig
    expansion: ExpansionConfig | None
    trust: float
    labels: FrozenLabels | None = None


@dataclass(frozen=True, eq=False)
class Added:
    """Photos that were added since, and whom they resemble now.

    Attributes:
        plain: `[m, d]` descriptors.
        aggregated: `[m, e]`.
        lists: by name of the list, the index rows nearest to each of them, `[m, k]`.
        gone: bool `[n + m]` photos that are not there any more, of the run and added.
    """

    plain: NDArray[np.floating[Any]]
    aggregated: NDArray[np.floating[Any]]
    lists: Mapping[str, NeighborLists]
    gone: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Grown:
    """The index of all photos that are there.

    Attributes:
        plain: descriptors, `[n + m, d]`.
        aggregated: `[n + m, e]`.
        expanded: None where the run did not expand.
        pairs: int64 `[p, 2]` index rows that were compared, both there.
        probabilities: float32 `[p]` P(same place).
        trusted: trusted edges among index photos.
        labels: posteriors and labels of all rows; None where labels are not used.
    """

    plain: LayeredMatrix
    aggregated: LayeredMatrix
    expanded: LayeredMatrix | None
    pairs: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    trusted: CsrGraph
    labels: tuple[LabelPosterior, Votes] | None


def nothing_added(frozen: Frozen) -> Added:
    """Return that a run's index is as it was."""
    empty = NeighborLists(np.zeros((0, 0), np.int32), np.zeros((0, 0), np.float32))
    lists = {BLEND: empty, AGGREGATED: empty}
    plain, aggregated = frozen.plain[:0], frozen.aggregated[:0]
    return Added(np.asarray(plain), np.asarray(aggregated), lists, np.zeros(len(frozen.plain), np.bool_))


def change(
    frozen: Frozen,
    before: Added,
    plain: NDArray[np.floating[Any]],
    aggregated: NDArray[np.floating[Any]],
    delete: NDArray[np.int64],
    bring_back: NDArray[np.int64] | None = None,
) -> Added:
    """Add photos and delete some; lists of photos that were added before are kept up, not made anew.

    Args:
        frozen: what the run left.
        before: what was added and deleted so far.
        plain: `[a, d]` descriptors of new photos.
        aggregated: `[a, e]` their aggregated local features.
        delete: int64 `[r]` rows that go.
        bring_back: int64 `[b]` deleted rows of the run that come back.
    """
    new = len(plain)
    gone = np.concatenate([before.gone, np.zeros(new, np.bool_)])
    gone[delete] = True
    back = np.zeros(0, np.int64) if bring_back is None else bring_back
    gone[back] = False
    after = Added(
        np.concatenate([before.plain, plain]),
        np.concatenate([before.aggregated, aggregated]),
        before.lists,
        gone,
    )
    matrices = {BLEND: (frozen.plain, after.plain), AGGREGATED: (frozen.aggregated, after.aggregated)}
    lists = {}
    for name, (base, top) in matrices.items():
        matrix = LayeredMatrix(base, top, _added_rows(base, top), gone)
        lists[name] = _kept_up(matrix, before.lists[name], new, frozen, anew=len(back) > 0)
    return replace(after, lists=lists)


def _kept_up(
    matrix: LayeredMatrix, before: NeighborLists, new: int, frozen: Frozen, anew: bool
) -> NeighborLists:
    """Return the lists of all added photos: those of new ones, and of others that lost or gained a photo."""
    n, count, config = len(matrix.base), len(matrix.top), frozen.knn
    old = count - new
    width = min(config.k, len(matrix))
    neighbors = np.full((count, width), -1, np.int32)
    weights = np.full((count, width), -np.inf, np.float32)
    if matrix.shape[1] == 0:
        return NeighborLists(neighbors, weights)
    there = ~matrix.gone[matrix.rows]
    lost = np.full(count, anew)
    if old and not anew:
        known = before.neighbors >= 0
        lost[:old] = (known & matrix.gone[np.maximum(before.neighbors, 0)]).any(axis=1)
        if new:
            fresh = LayeredMatrix(
                matrix.base[:0], matrix.top[old:], np.arange(new, dtype=np.int64), matrix.gone[n + old :]
            )
            near = fresh.search(matrix.top[:old], config)
            moved = np.where(near.neighbors >= 0, near.neighbors + n + old, -1).astype(np.int32)
            before = merge([before, NeighborLists(moved, near.weights)], config.k)
        neighbors[:old, : before.neighbors.shape[1]] = before.neighbors
        weights[:old, : before.neighbors.shape[1]] = before.weights
    wanted = np.flatnonzero(there & (lost | (np.arange(count) >= old)))
    if len(wanted):
        near = matrix.search(matrix.top[wanted], config, matrix.rows[wanted])
        neighbors[wanted], weights[wanted] = -1, -np.inf
        neighbors[wanted, : near.neighbors.shape[1]] = near.neighbors
        weights[wanted, : near.neighbors.shape[1]] = near.weights
    neighbors[~there], weights[~there] = -1, -np.inf
    return NeighborLists(neighbors, weights)


def grow(frozen: Frozen, added: Added, inliers: Inliers) -> Grown:
    """Return the index of all photos that are there.

    Args:
        frozen: what the run left.
        added: what was added and deleted since.
        inliers: of pairs; asked for those that the lists of added photos propose.
    """
    rows = _added_rows(frozen.plain, added.plain)
    plain = LayeredMatrix(frozen.plain, added.plain, rows, added.gone)
    aggregated = LayeredMatrix(frozen.aggregated, added.aggregated, rows, added.gone)
    new, counts = _compared(frozen, added, inliers)
    there = ~added.gone[frozen.pairs].any(axis=1)
    pairs = np.concatenate([frozen.pairs[there], new])
    every = np.concatenate([frozen.inliers[there], counts])
    probabilities = frozen.fit.probabilities(every)
    _, trusted = verified_graphs(pairs[:, 0], pairs[:, 1], probabilities, 0, len(added.gone), frozen.trust)
    expanded = None
    if frozen.expanded is not None:
        expanded = _expanded(frozen, frozen.expanded, plain, pairs, every, new)
    searched = plain if expanded is None else expanded
    labels = None if frozen.labels is None else _labels(frozen, frozen.labels, searched)
    return Grown(plain, aggregated, expanded, pairs, probabilities, trusted, labels)


def _added_rows(base: NDArray[Any], top: NDArray[Any]) -> NDArray[np.int64]:
    return np.arange(len(base), len(base) + len(top), dtype=np.int64)


def _compared(frozen: Frozen, added: Added, inliers: Inliers) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Return the pairs of added photos that count, each once with the lower row first, and their inliers."""
    n, found = len(frozen.plain), dict[tuple[int, int], int]()
    for place in np.flatnonzero(~added.gone[n:]).tolist():
        row = n + place
        lists = {name: one[place : place + 1] for name, one in added.lists.items()}
        tried = compare_candidates(lists, partial(inliers, row), frozen.verification, frozen.measured_floor)
        for other, count in zip(tried["row_b"].tolist(), tried["inliers"].tolist(), strict=True):
            found[min(row, other - 1), max(row, other - 1)] = count
    pairs = np.array(sorted(found), np.int64).reshape(-1, 2)
    return pairs, np.array([found[a, b] for a, b in pairs.tolist()], np.int32)


def _expanded(
    frozen: Frozen,
    base: NDArray[np.floating[Any]],
    plain: LayeredMatrix,
    pairs: NDArray[np.int64],
    inliers: NDArray[np.int32],
    new: NDArray[np.int64],
) -> LayeredMatrix:
    """Return the expanded descriptors: the run's, but for photos with a partner that came or went."""
    config = frozen.expansion
    assert config is not None
    floor = max(1, frozen.fit.floor(frozen.verification.calibration.expand) or NEVER)
    lost = plain.gone[frozen.pairs].any(axis=1) & (frozen.inliers >= floor)
    touched = np.zeros(len(plain), np.bool_)
    touched[frozen.pairs[lost]] = touched[new] = touched[len(base) :] = True
    rows = np.flatnonzero(touched & ~plain.gone)
    strong = inliers >= floor
    both = np.concatenate([pairs[strong], pairs[strong][:, ::-1]])
    counts = np.tile(inliers[strong], 2)
    order = np.argsort(both[:, 0], kind="stable")
    both, counts = both[order], counts[order]
    starts, stops = np.searchsorted(both[:, 0], rows), np.searchsorted(both[:, 0], rows, side="right")
    top = np.array(plain[rows])
    if config.database_side:
        for place, (row, start, stop) in enumerate(
            zip(rows.tolist(), starts.tolist(), stops.tolist(), strict=True)
        ):
            if stop > start:
                top[place] = _expand_one(row, both[start:stop, 1], counts[start:stop], plain, config, floor)
    return LayeredMatrix(base, top, rows, plain.gone)


def _expand_one(
    row: int,
    partners: NDArray[np.int64],
    inliers: NDArray[np.int32],
    plain: LayeredMatrix,
    config: ExpansionConfig,
    floor: int,
) -> NDArray[np.floating[Any]]:
    """Return the descriptor of one photo, expanded by its verified partners, by falling similarity."""
    similar = inner_products(by_number(plain), by_number(plain), np.full(len(partners), row), partners)
    order = np.lexsort((partners, -similar))
    lists = NeighborLists(partners[order][None].astype(np.int32), similar[order][None])
    own = plain[np.array([row])]
    expanded = query_expansion.expand(own, by_number(plain), lists, inliers[order][None], config, floor)
    return np.asarray(expanded[0], plain.dtype)


def _labels(frozen: Frozen, known: FrozenLabels, searched: LayeredMatrix) -> tuple[LabelPosterior, Votes]:
    """Return the labels of all rows: the run's, but for photos whose nearest photos are others now."""
    rows = _moved(known.own[:, NEAREST - 1] if known.own.shape[1] >= NEAREST else None, searched)
    near = searched.search(searched[rows], frozen.knn.model_copy(update={"k": NEAREST}), rows)
    train = frozen.knn.model_copy(
        update={"k": max(1, min(TRAIN_NEIGHBORS, len(known.train))), "approximate": None}
    )
    nearest = search(searched[rows], known.train, train, None, "train images")
    found = label_posterior(nearest, own_similarity(near.weights), known.train_labels, known.model)
    votes = given_labels(found.given(frozen.trust), nearest, known.train_labels)
    n, total = len(searched.base), len(searched)

    def spread(before: NDArray[Any], values: NDArray[Any], nothing: Any) -> NDArray[Any]:
        result = np.full((total, *before.shape[1:]), nothing, before.dtype)
        result[:n] = before
        result[rows] = values
        result[searched.gone] = nothing
        return result

    posterior = LabelPosterior(
        spread(known.index.labels, found.labels, NO_LABEL),
        spread(known.index.probabilities, found.probabilities, 0),
        spread(known.index.none, found.none, 1),
    )
    return posterior, Votes(
        spread(known.votes.label, votes.label, NO_LABEL),
        spread(known.votes.train_row, votes.train_row, -1),
        spread(known.votes.similarity, votes.similarity, -np.inf),
    )


def _moved(third: NDArray[np.float32] | None, searched: LayeredMatrix) -> NDArray[np.int64]:
    """Return the rows whose descriptor or whose three nearest photos are others than in the run."""
    n = len(searched.base)
    moved = np.zeros(len(searched), np.bool_)
    moved[searched.rows] = True
    if third is None:
        moved[:] = True
    else:
        changed = np.flatnonzero(moved[:n] | searched.gone[:n])
        vectors = np.concatenate([searched.base[changed], searched.top]).astype(np.float32)
        for start in range(0, n, BLOCK):
            part = slice(start, min(start + BLOCK, n))
            nearest = (searched.base[part].astype(np.float32) @ vectors.T).max(axis=1, initial=-np.inf)
            moved[part] |= nearest >= third[part] - ROUNDING
    return np.flatnonzero(moved & ~searched.gone)

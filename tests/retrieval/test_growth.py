"""Adding and deleting gives the index that the same photos give at once, whatever came before."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from numpy.typing import NDArray

from landmark_retrieval.graph.label_bridge import Votes
from landmark_retrieval.graph.label_evidence import LabelModel, LabelPosterior, infer_labels, own_similarity
from landmark_retrieval.knn import KnnConfig, NeighborLists
from landmark_retrieval.retrieval.growth import (
    Added,
    Frozen,
    FrozenLabels,
    Grown,
    change,
    grow,
    nothing_added,
)
from landmark_retrieval.retrieval.layers import LayeredMatrix
from landmark_retrieval.verification import ExpansionConfig, VerificationConfig
from landmark_retrieval.verification.calibration import InlierFit

PLACES, DIMENSIONS, BASE, TRAIN = 5, 12, 14, 10
FLOOR = 14
TRUST = 0.9
CONFIG = VerificationConfig(candidates={"blend": 3, "aggregated": 2}, min_inliers=FLOOR)
FIT = InlierFit(pairs=500, start=6, top=100, unrelated=0.5, rate=0.45)


class World:
    """Photos of a few places, with descriptors that show them badly and inliers that show them well."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.centres = unit(rng.normal(size=(PLACES, DIMENSIONS)))
        self.place = rng.integers(0, PLACES + 2, 200)  # the last two stand for no place at all
        noise = rng.normal(size=(200, DIMENSIONS)) * 0.35
        known = self.centres[np.minimum(self.place, PLACES - 1)] * (self.place < PLACES)[:, None]
        self.plain = unit(known + noise).astype(np.float32)
        self.aggregated = unit(known + rng.normal(size=(200, DIMENSIONS)) * 0.35).astype(np.float32)
        chance = np.triu(rng.integers(5, 12, (200, 200)), 1)
        right = np.triu(rng.integers(8, 60, (200, 200)), 1)
        same = (self.place[:, None] == self.place) & (self.place < PLACES)
        both = np.where(same, right, chance)
        self.inliers = both + both.T
        self.train = unit(np.repeat(self.centres, 2, axis=0) + rng.normal(size=(TRAIN, DIMENSIONS)) * 0.2)
        self.train_labels = np.repeat(np.arange(PLACES), 2)


def unit(x: NDArray[np.floating]) -> NDArray[np.floating]:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def nearest(
    queries: NDArray[np.floating], rows: NDArray[np.floating], k: int, itself: bool
) -> list[list[int]]:
    """The k rows of the largest products, by sorting all of them."""
    products = (queries.astype(np.float64) @ rows.astype(np.float64).T).astype(np.float32)
    found = []
    for number, line in enumerate(products):
        order = [row for row in np.lexsort((np.arange(len(rows)), -line)) if not (itself and row == number)]
        found.append(order[:k])
    return found


def expanded_by(world: World, photos: list[int], pairs: dict[tuple[int, int], int]) -> NDArray[np.float32]:
    """Each photo averaged with its two partners of most inliers, ties by similarity."""
    floor = FIT.floor(0.9) or 0
    result = world.plain[photos].copy()
    for place, photo in enumerate(photos):
        partners = [
            (a if b == photo else b, n) for (a, b), n in pairs.items() if photo in (a, b) and n >= floor
        ]
        similarity = {
            other: world.plain[photo].astype(np.float64) @ world.plain[other] for other, _ in partners
        }
        best = sorted(partners, key=lambda pair: (-pair[1], -similarity[pair[0]]))[:2]
        if best:
            total = world.plain[[photo, *(other for other, _ in best)]].astype(np.float64).sum(axis=0)
            result[place] = total / np.linalg.norm(total)
    return result


def base_pairs(world: World) -> dict[tuple[int, int], int]:
    """What the run compared: each of its photos with its three nearest."""
    lists = nearest(world.plain[:BASE], world.plain[:BASE], 3, True)
    pairs = {(min(a, b), max(a, b)) for a, found in enumerate(lists) for b in found}
    return {pair: int(world.inliers[pair]) for pair in sorted(pairs)}


def labels_at_once(world: World, expanded: NDArray[np.float32], model: LabelModel) -> LabelPosterior:
    """P(label) of all photos, from all neighbours."""

    def lists(rows: NDArray[np.floating], k: int, itself: bool) -> NeighborLists:
        near = np.array(nearest(expanded, rows, k, itself))
        weights = np.take_along_axis(expanded.astype(np.float64) @ rows.astype(np.float64).T, near, axis=1)
        return NeighborLists(near.astype(np.int32), weights.astype(np.float32))

    own = own_similarity(lists(expanded, 3, True).weights)
    return infer_labels(lists(world.train, TRAIN, False), own, world.train_labels, model)


def frozen_of(world: World, labelled: bool = True) -> Frozen:
    pairs = base_pairs(world)
    expanded = expanded_by(world, list(range(BASE)), pairs)
    model = LabelModel(5, 10, 6.0, -4.0, 5.0, 3.0, 0.1, 0.5)
    own = np.sort(
        (expanded.astype(np.float64) @ expanded.T.astype(np.float64)).astype(np.float32) - 9 * np.eye(BASE)
    )
    posterior = labels_at_once(world, expanded, model)
    given = posterior.given(TRUST)
    votes = Votes(given, np.full(BASE, -1, np.int32), np.full(BASE, -np.inf, np.float32))
    labels = FrozenLabels(
        model,
        posterior,
        votes,
        own[:, ::-1][:, :3].astype(np.float32),
        world.train.astype(np.float32),
        world.train_labels,
    )
    return Frozen(
        plain=world.plain[:BASE],
        expanded=expanded,
        aggregated=world.aggregated[:BASE],
        pairs=np.array(list(pairs)),
        inliers=np.array(list(pairs.values()), np.int32),
        fit=FIT,
        measured_floor=FLOOR,
        knn=KnnConfig(k=6),
        verification=CONFIG,
        expansion=ExpansionConfig(images=2),
        trust=TRUST,
        labels=labels if labelled else None,
    )


class Growth(RuleBasedStateMachine):
    """Adds and deletes; whatever was done, the index is that of the photos that are there."""

    @initialize(seed=st.integers(0, 1000))
    def begin(self, seed: int) -> None:
        self.world, self.photos = World(seed), list(range(BASE))  # photo of each row, in order of coming
        self.frozen = frozen_of(self.world)
        self.added = nothing_added(self.frozen)
        self.free = list(range(BASE, 60))

    @rule(count=st.integers(1, 3), data=st.data())
    def add(self, count: int, data: st.DataObject) -> None:
        new = [self.free.pop(data.draw(st.integers(0, len(self.free) - 1))) for _ in range(count)]
        self.photos += new
        self.added = change(self.frozen, self.added, *described(self.world, new), np.zeros(0, np.int64))

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        there = np.flatnonzero(~self.added.gone)
        if len(there) > 6:
            rows = data.draw(st.lists(st.sampled_from(there.tolist()), min_size=1, max_size=3, unique=True))
            self.added = change(self.frozen, self.added, *described(self.world, []), np.array(rows))

    @invariant()
    def is_the_index_of_what_is_there(self) -> None:
        if hasattr(self, "added"):
            grown = grow(self.frozen, self.added, oracle(self.world, self.photos))
            check(self.world, self.photos, self.added, grown)
            gone = np.flatnonzero(self.added.gone[:BASE])
            there = [photo for photo, gone in zip(self.photos, self.added.gone, strict=True) if not gone]
            new = [photo for photo in there if photo >= BASE]
            once = change(self.frozen, nothing_added(self.frozen), *described(self.world, new), gone)
            photos = [*range(BASE), *new]
            same(grown, self.photos, grow(self.frozen, once, oracle(self.world, photos)), photos)


def described(world: World, photos: list[int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    return world.plain[photos], world.aggregated[photos]


def oracle(world: World, photos: list[int]):
    def inliers(row: int, others: Sequence[int]) -> list[int]:
        return [int(world.inliers[photos[row], photos[other]]) for other in others]

    return inliers


def check(world: World, photos: list[int], added: Added, grown: Grown) -> None:
    """Compare with what all photos that are there give when everything is made anew, by other means."""
    there = [photo for photo, gone in zip(photos, added.gone, strict=True) if not gone]
    pairs = {pair: n for pair, n in base_pairs(world).items() if set(pair) <= set(there)}
    for matrix, count in ((world.plain, 3), (world.aggregated, 2)):
        for place, found in enumerate(nearest(matrix[there], matrix[there], count, True)):
            for other in found if there[place] >= BASE else []:
                a, b = there[place], there[other]
                pairs[min(a, b), max(a, b)] = int(world.inliers[a, b])
    mine = [tuple(sorted((photos[a], photos[b]))) for a, b in grown.pairs.tolist()]
    assert sorted(mine) == sorted(pairs) and len(set(mine)) == len(mine)
    strong = {pair for pair, n in pairs.items() if FIT.probabilities(n) >= TRUST}
    edges = {
        tuple(sorted((photos[row], photos[int(other)])))
        for row in range(len(photos))
        for other in grown.trusted.neighbors(row)[0]
    }
    assert edges == {pair for pair in strong if is_vouched_for(pair, strong)}
    expanded = expanded_by(world, there, pairs)
    rows = np.flatnonzero(~added.gone)
    assert grown.expanded is not None and grown.labels is not None
    np.testing.assert_allclose(grown.expanded[rows], expanded, atol=1e-6)
    model = LabelModel(5, 10, 6.0, -4.0, 5.0, 3.0, 0.1, 0.5)
    wanted = labels_at_once(world, expanded, model)
    np.testing.assert_allclose(grown.labels[0].none[rows], wanted.none, atol=1e-4)
    np.testing.assert_allclose(grown.labels[0].probabilities[rows], wanted.probabilities, atol=1e-4)
    assert (grown.labels[0].labels[added.gone] == -1).all()
    query = world.plain[150:151]
    found = grown.expanded.search(query, KnnConfig(k=6)).neighbors[0]
    assert [photos[row] for row in found] == [there[row] for row in nearest(query, expanded, 6, False)[0]]


def is_vouched_for(pair: tuple[int, ...], links: set[tuple[int, int]]) -> bool:
    """Whether half of those around the end with fewer links, itself among them, are around the other end."""
    one, two = ({end} | {a if b == end else b for a, b in links if end in (a, b)} for end in pair)
    return 2 * len(one & two) >= min(len(one), len(two))


def same(one: Grown, photos: list[int], other: Grown, others: list[int]) -> None:
    """Compare two states bit by bit, photo by photo."""
    at, there = np.flatnonzero(~one.plain.gone), np.flatnonzero(~other.plain.gone)
    assert [photos[row] for row in at] == [others[row] for row in there]
    assert one.expanded is not None and other.expanded is not None
    np.testing.assert_array_equal(one.expanded[at], other.expanded[there])
    assert one.labels is not None and other.labels is not None
    np.testing.assert_array_equal(one.labels[0].probabilities[at], other.labels[0].probabilities[there])
    np.testing.assert_array_equal(one.labels[1].label[at], other.labels[1].label[there])
    for row, twin in zip(at.tolist(), there.tolist(), strict=True):
        mine, weights = one.trusted.neighbors(row)
        theirs, their_weights = other.trusted.neighbors(twin)
        assert [photos[r] for r in mine] == [others[r] for r in theirs]
        np.testing.assert_array_equal(weights, their_weights)


TestGrowth = Growth.TestCase
TestGrowth.settings = settings(max_examples=15, stateful_step_count=8, deadline=None)


@pytest.mark.parametrize("k", [1, 3, 50])
def test_a_layered_matrix_is_searched_like_one_without_holes(k: int) -> None:
    rng = np.random.default_rng(k)
    base, top = (unit(rng.normal(size=(n, 6))).astype(np.float32) for n in (40, 12))
    rows = np.concatenate([[3, 7, 20, 39], np.arange(40, 48)])
    gone = np.zeros(48, np.bool_)
    gone[[0, 1, 7, 20, 41, *range(25, 39)]] = True
    layered = LayeredMatrix(base, top, rows, gone)
    whole = np.concatenate([base, np.zeros((8, 6), np.float32)])
    whole[rows] = top
    np.testing.assert_array_equal(layered[np.arange(48)][~gone], whole[~gone])
    there = np.flatnonzero(~gone)
    queries = unit(rng.normal(size=(5, 6))).astype(np.float32)
    found = layered.search(queries, KnnConfig(k=k))
    for q, expected in enumerate(nearest(queries, whole[there], k, False)):
        assert found.neighbors[q][found.neighbors[q] >= 0].tolist() == there[expected].tolist()

"""Which queries a stage changed most, and the result and the edge that did it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from landmark_retrieval.graph.egt import Traversal, trusted_path
from landmark_retrieval.graph.kernel import LABEL_EDGE, VERIFIED_EDGE
from landmark_retrieval.retrieval.variants import compared_with

NOWHERE = 10**6
"""Rank of what a ranking does not hold."""


@dataclass(frozen=True)
class Gain:
    """One query that a stage changed, by the result that moved most.

    Attributes:
        variant: the stage.
        query: row of the query.
        before: average precision before the stage.
        after: average precision after it.
        row: index row of the result: for a gain the right one that rose most, for a loss the wrong one.
        rank_before: its rank before, from 1; None where it was not found.
        rank_after: its rank after.
        reason: what brought it there.
    """

    variant: str
    query: int
    before: float
    after: float
    row: int
    rank_before: int | None
    rank_after: int
    reason: str


def largest_gains(
    rankings: Mapping[str, NDArray[np.int32]],
    scores: Sequence[NDArray[np.float64]],
    relevant: Sequence[NDArray[np.int64]],
    traversals: Mapping[str, Traversal],
    inliers: Mapping[tuple[int, int], int],
    count: int = 3,
) -> list[Gain]:
    """Return, of every stage, the queries that gained most and those that lost most.

    Args:
        rankings: int32 `[q, k]` index rows of each variant, in the order of the table.
        scores: float64 `[q]` average precision of each, NaN for a query without a right answer.
        relevant: per query the index rows that are right.
        traversals: of the variants that traverse.
        inliers: of tried pairs, by row of the query and index row.
        count: most queries of either kind a stage.
    """
    found: list[Gain] = []
    measured = dict(zip(rankings, scores, strict=True))
    for after, before in compared_with(list(rankings)).items():
        old, new = measured[before], measured[after]
        change = np.nan_to_num(new - old)
        order = np.argsort(-change, kind="stable")
        chosen = [int(q) for q in order[:count] if change[q] > 0]
        chosen += [int(q) for q in order[::-1][:count] if change[q] < 0]
        for query in chosen:
            right = change[query] > 0
            moved = _moved(rankings[before][query], rankings[after][query], relevant[query], right)
            if moved is None:
                continue
            row, was, now = moved
            reason = _reason(query, row, now, traversals.get(after), inliers.get((query, row)))
            found.append(Gain(after, query, float(old[query]), float(new[query]), row, was, now, reason))
    return found


def _moved(
    before: NDArray[np.int32], after: NDArray[np.int32], relevant: NDArray[np.int64], right: bool
) -> tuple[int, int | None, int] | None:
    """Return the right (or wrong) result whose reciprocal rank rose most, its rank before and after."""
    ranks = {int(row): place for place, row in enumerate(before.tolist(), start=1) if row >= 0}
    wanted = set(relevant.tolist())
    best, result = 0.0, None
    for place, row in enumerate(after.tolist(), start=1):
        if row < 0 or (row in wanted) != right:
            continue
        rise = 1 / place - 1 / ranks.get(row, NOWHERE)
        if rise > best:
            best, result = rise, (row, ranks.get(row), place)
    return result


def _reason(query: int, row: int, rank: int, traversal: Traversal | None, inliers: int | None) -> str:
    """Say what brought a result to its rank."""
    if traversal is None:
        if inliers:
            return f"{inliers} inliers with the query, and the expanded descriptors"
        return "similarity of the expanded descriptors"
    kind = int(traversal.kinds[query, rank - 1])
    if kind == LABEL_EDGE:
        return "a label that both have"
    steps = trusted_path(traversal, query, rank - 1)
    if kind == VERIFIED_EDGE:
        worth = f"{traversal.scores[query, rank - 1]:.3f}"
        if len(steps) == 1:
            return f"verified against the query, P(same place) = {worth}"
        return f"a path over {len(steps)} verified edges, worth {worth}"
    weights = ", ".join(f"{step.weight:.2f}" for step in steps)
    return f"similarity {weights}" if len(steps) == 1 else f"a path over similarities {weights}"

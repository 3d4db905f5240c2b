from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_references import first_position, found, gld_average_precision
from numpy.typing import NDArray

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.evaluation.gld import (
    average_precision,
    evaluate_variant,
    precision,
    recall,
    relevance,
    score_queries,
)


def padded(results: list[list[int]], length: int = 100) -> NDArray[np.int32]:
    ranking = np.full((len(results), length), -1, np.int32)
    for row, items in enumerate(results):
        ranking[row, : len(items)] = items
    return ranking


def rows(*wanted: list[int]) -> list[NDArray[np.int64]]:
    return [np.array(items, np.int64) for items in wanted]


@pytest.mark.parametrize(
    ("results", "wanted", "expected"),
    [
        ([7], [7], 1.0),
        ([1, 7], [7], 1 / 2),
        ([7, 1, 8], [7, 8], (1 + 2 / 3) / 2),
        ([7], [7, 8], 1 / 2),  # fewer results than relevant images
        ([7, 7, 8], [7, 8], (1 + 2 / 3) / 2),  # a repetition keeps its rank
        ([1, 1, 7], [7], 1 / 3),  # also that of a wrong result
        ([], [7], 0.0),  # a missing query
        ([-1, 7], [7], 1 / 2),  # a gap keeps its rank
        ([1, 2], [7], 0.0),
        (list(range(100)), list(range(150)), 1.0),  # more relevant images than ranks
        (list(range(99, -1, -1)), list(range(50, 150)), 50 / 100),
    ],
)
def test_average_precision_by_hand(results: list[int], wanted: list[int], expected: float) -> None:
    assert average_precision(padded([results]), rows(wanted))[0] == pytest.approx(expected, abs=1e-12)


def test_only_the_first_hundred_count() -> None:
    ranking = np.arange(120, dtype=np.int32)[None]
    assert average_precision(ranking, rows([100]))[0] == 0
    assert average_precision(ranking, rows([99]))[0] == pytest.approx(1 / 100)
    assert score_queries(ranking, rows([100]))["position"][0] == 101
    assert evaluate_variant(ranking, rows([100]))["mean_position"] == 101


def test_ranking_narrower_than_k() -> None:
    ranking = np.array([[4, 3]], np.int32)
    assert precision(ranking, rows([3]), 10)[0] == pytest.approx(0.1)
    assert recall(ranking, rows([3]), 10)[0] == 1
    assert score_queries(ranking, rows([5]))["position"][0] == 101
    assert average_precision(np.zeros((1, 0), np.int32), rows([5]))[0] == 0


def test_recall_is_the_hit_rate_at_one_and_for_single_positives() -> None:
    ranking = padded([[1, 2, 3], [9, 1], [4]])
    relevant = rows([1, 2, 3, 4], [1], [5])
    assert recall(ranking, relevant, 1).tolist() == [1, 0, 0]
    assert recall(ranking, relevant, 2).tolist() == [1, 1, 0]
    assert recall(ranking, relevant, 10).tolist() == [3 / 4, 1, 0]
    assert recall(padded([list(range(12))]), rows(list(range(30))), 10).tolist() == [1]


def test_queries_without_relevant_images_are_in_no_mean() -> None:
    metrics = evaluate_variant(padded([[1], [2]]), rows([1], []))
    assert metrics == {
        "mAP_at_100": 1.0,
        "P_at_10": 0.1,
        "R_at_1": 1.0,
        "R_at_10": 1.0,
        "mean_position": 1.0,
        "queries": 1.0,
    }


def test_public_private_and_ignored() -> None:
    ranking = padded([[1], [1, 2], [3], [4]])
    relevant = rows([1], [2], [9], [4])
    metrics = evaluate_variant(ranking, relevant, np.array(["Public", "Private", "Ignored", ""]))
    assert metrics["mAP_at_100"] == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert metrics["mAP_at_100_public"] == 1
    assert metrics["mAP_at_100_private"] == pytest.approx(1 / 2)
    assert metrics["queries"] == 3
    assert "mAP_at_100_private" not in evaluate_variant(ranking[:1], relevant[:1], np.array(["Public"]))
    scores = score_queries(ranking, relevant, np.array(["Public", "Private", "Ignored", ""]))
    assert scores["AP_at_100"].isna().tolist() == [False, False, True, False]


def test_relevant_rows_may_repeat_and_need_no_order() -> None:
    assert average_precision(padded([[5, 2]]), rows([5, 2, 5]))[0] == 1


def test_nothing_to_measure_and_misfits_are_errors() -> None:
    with pytest.raises(LandmarkRetrievalError, match="no query has a relevant"):
        evaluate_variant(padded([[1]]), rows([]))
    with pytest.raises(LandmarkRetrievalError, match="no query has a relevant"):
        evaluate_variant(padded([[1]]), rows([1]), np.array(["Ignored"]))
    with pytest.raises(LandmarkRetrievalError, match="does not fit 2 queries"):
        evaluate_variant(padded([[1]]), rows([1], [2]))
    with pytest.raises(LandmarkRetrievalError, match="2 usages for 1 queries"):
        evaluate_variant(padded([[1]]), rows([1]), np.array(["Public", "Public"]))
    assert relevance(np.zeros((0, 100), np.int32), []).shape == (0, 100)


@st.composite
def tasks(draw: st.DrawFn) -> tuple[list[list[int]], list[list[int]]]:
    """Rankings with repetitions and gaps, and relevant sets, some empty, some larger than the ranking."""
    q = draw(st.integers(1, 4))
    results = draw(st.lists(st.lists(st.integers(-1, 12), max_size=15), min_size=q, max_size=q))
    wanted = draw(st.lists(st.sets(st.integers(0, 12)), min_size=q, max_size=q))
    return results, [sorted(items) for items in wanted]


@settings(deadline=None, max_examples=200)
@given(tasks(), st.integers(1, 20))
def test_against_the_literal_definitions(task: tuple[list[list[int]], list[list[int]]], k: int) -> None:
    results, wanted = task
    ranking, relevant = padded(results), rows(*wanted)
    for values, reference in (
        (average_precision(ranking, relevant, k), gld_average_precision),
        (precision(ranking, relevant, k), lambda r, w, k: found(r, w, k) / k),
        (recall(ranking, relevant, k), lambda r, w, k: found(r, w, k) / min(len(w), k)),
        (score_queries(ranking, relevant)["position"], lambda r, w, k: first_position(r, w)),
    ):
        for value, items, target in zip(values, results, wanted, strict=True):
            if target:
                assert value == pytest.approx(reference(items, target, k), abs=1e-12)
            else:
                assert np.isnan(value)


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(0, 30), st.randoms(use_true_random=False))
def test_properties(positives: int, negatives: int, random: object) -> None:
    perfect = list(range(positives + negatives))
    relevant = rows(list(range(positives)))
    assert average_precision(padded([perfect]), relevant)[0] == pytest.approx(1)
    assert recall(padded([perfect]), relevant, 10)[0] == 1
    shuffled = list(perfect)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    value = average_precision(padded([shuffled]), relevant)[0]
    assert 0 <= value <= 1
    # Moving a relevant result one rank up never lowers the score.
    for place in range(1, len(shuffled)):
        if shuffled[place] < positives <= shuffled[place - 1]:
            better = list(shuffled)
            better[place - 1], better[place] = better[place], better[place - 1]
            assert average_precision(padded([better]), relevant)[0] > value
    # Renaming images changes nothing.
    assert average_precision(
        padded([[i + 1000 for i in shuffled]]), rows([i + 1000 for i in range(positives)])
    )[0] == pytest.approx(value)


@settings(deadline=None)
@given(st.permutations(range(15)), st.integers(0, 14))
def test_reranking_the_first_ten_is_bounded_by_recall_at_ten(order: list[int], positive: int) -> None:
    ranking, relevant = padded([list(order)]), rows([positive])
    head = sorted(order[:10], key=lambda row: row != positive)
    best = average_precision(padded([head]), relevant)[0]
    assert best == recall(ranking, relevant, 10)[0]

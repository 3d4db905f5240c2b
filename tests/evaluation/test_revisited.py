from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_references import revisited_average_precision, revisited_precision
from numpy.typing import NDArray

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.evaluation.revisited import (
    PROTOCOLS,
    RevisitedTruth,
    evaluate_revisited,
    score_revisited,
)


def rows(items: list[int] | set[int]) -> NDArray[np.int64]:
    return np.array(sorted(items), np.int64)


def test_by_hand() -> None:
    # Without the junk image 0, the easy image 1 is first, the negative 2 second, the hard image 3 third.
    truth = RevisitedTruth(easy=[rows([1])], hard=[rows([3])], junk=[rows([0])])
    metrics = evaluate_revisited(np.array([[0, 1, 2, 3]], np.int32), truth)
    assert metrics["mAP_easy"] == 1
    assert metrics["mAP_medium"] == pytest.approx((1 + (1 / 2 + 2 / 3) / 2) / 2)
    assert metrics["mAP_hard"] == pytest.approx((0 + 1 / 2) / 2)  # easy taken out, one negative before it
    assert metrics["mP_at_1_easy"] == 1 and metrics["mP_at_1_hard"] == 0
    assert metrics["mP_at_10_medium"] == pytest.approx(2 / 3)  # over the ranks up to the last positive
    assert metrics["mP_at_10_hard"] == pytest.approx(1 / 2)


def test_a_short_ranking_loses_what_it_does_not_reach() -> None:
    truth = RevisitedTruth(easy=[rows([1, 2])], hard=[rows([])], junk=[rows([])])
    assert evaluate_revisited(np.array([[1, -1, -1]], np.int32), truth)["mAP_easy"] == 0.5
    nothing = evaluate_revisited(np.array([[5, -1]], np.int32), truth)
    assert nothing["mAP_easy"] == 0 and nothing["mP_at_5_easy"] == 0
    assert "mAP_hard" not in nothing


def test_queries_with_nothing_to_find_are_in_no_mean() -> None:
    truth = RevisitedTruth(easy=[rows([1]), rows([])], hard=[rows([]), rows([2])], junk=[rows([])] * 2)
    ranking = np.array([[1, 2], [1, 2]], np.int32)
    metrics = evaluate_revisited(ranking, truth)
    assert metrics["mAP_easy"] == 1 and metrics["mAP_hard"] == pytest.approx(0.25)
    assert score_revisited(ranking, truth, "hard")["AP"].isna().tolist() == [True, False]


def test_errors() -> None:
    truth = RevisitedTruth(easy=[rows([1])], hard=[rows([])], junk=[rows([])])
    with pytest.raises(LandmarkRetrievalError, match="names an image twice"):
        evaluate_revisited(np.array([[1, 1]], np.int32), truth)
    with pytest.raises(LandmarkRetrievalError, match="2 rows but the ground truth 1"):
        evaluate_revisited(np.zeros((2, 1), np.int32), truth)
    with pytest.raises(LandmarkRetrievalError, match="unknown protocol 'harder'"):
        score_revisited(np.zeros((1, 1), np.int32), truth, "harder")


@settings(deadline=None, max_examples=200)
@given(
    st.permutations(range(14)),
    st.integers(0, 14),
    st.lists(st.sampled_from(["easy", "hard", "junk", "negative"]), min_size=14, max_size=14),
)
def test_against_the_literal_definition(order: list[int], length: int, kinds: list[str]) -> None:
    of = {kind: {row for row, name in enumerate(kinds) if name == kind} for kind in ("easy", "hard", "junk")}
    truth = RevisitedTruth(*([rows(of[kind])] for kind in ("easy", "hard", "junk")))
    ranking = np.array([[*order[:length], *([-1] * (14 - length))]], np.int32)
    targets = {
        "easy": (of["easy"], of["junk"] | of["hard"]),
        "medium": (of["easy"] | of["hard"], of["junk"]),
        "hard": (of["hard"], of["junk"] | of["easy"]),
    }
    for protocol in PROTOCOLS:
        wanted, junk = targets[protocol]
        scores = score_revisited(ranking, truth, protocol, ks=(1, 3, 10)).iloc[0]
        if not wanted:
            assert np.isnan(scores["AP"])
            continue
        results = order[:length]
        assert scores["AP"] == pytest.approx(revisited_average_precision(results, wanted, junk))
        for k in (1, 3, 10):
            assert scores[f"P_at_{k}"] == pytest.approx(revisited_precision(results, wanted, junk, k))

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from landmark_retrieval.collection import prepare_image_table
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.evaluation.protocols import complete_ranking, evaluate_protocol, revisited_truth


def table(**columns: list[str | None]) -> pd.DataFrame:
    raw = pd.DataFrame(
        {
            "image_id": ["q0", "q1", *"abcdef"],
            "path": [f"{number}.jpg" for number in range(8)],
            "split": ["query"] * 2 + ["index"] * 6,
            "landmark_id": [1, 1, 1, 1, None, None, None, None],
        }
    )
    for name, values in columns.items():
        raw[name] = [*values, *[None] * 6]
    return prepare_image_table(raw)


REVISITED = {"relevant": ["a b c", "d"], "hard": ["c", "d"], "junk": ["f", None]}


def slow_average_precision(ranked: list[int], positives: set[int], junk: set[int]) -> float:
    """The released program's loop, written out: junk is taken out, precision is averaged over both ends."""
    kept = [row for row in ranked if row not in junk]
    total, found = 0.0, 0
    for rank, row in enumerate(kept):
        if row in positives:
            before = 1.0 if rank == 0 else found / rank
            found += 1
            total += (before + found / (rank + 1)) / 2
    return total / len(positives)


def test_truth_of_a_table() -> None:
    truth = revisited_truth(table(**REVISITED))
    assert truth is not None
    assert [rows.tolist() for rows in truth.easy] == [[0, 1], []]
    assert [rows.tolist() for rows in truth.hard] == [[2], [3]]
    assert [rows.tolist() for rows in truth.junk] == [[5], []]


def test_tables_without_junk_have_no_protocol_of_their_own() -> None:
    assert revisited_truth(table()) is None
    ranking = np.zeros((2, 1), np.int32)
    assert evaluate_protocol(ranking, table(), np.ones((8, 2), np.float32)) == {}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_completed_rankings_name_everything_once(data: st.DataObject) -> None:
    n, k = data.draw(st.integers(1, 12)), data.draw(st.integers(0, 12))
    seed = data.draw(st.integers(0, 1000))
    random = np.random.default_rng(seed)
    index = random.integers(-2, 3, (n, 3)).astype(np.float32)  # many ties, some zero rows
    query = random.integers(-2, 3, (1, 3)).astype(np.float32)
    ranking = np.full((1, max(k, 1)), -1, np.int32)
    first = random.permutation(n)[: min(k, n)]
    ranking[0, : len(first)] = first
    completed = complete_ranking(ranking, query, index)[0].tolist()
    rest = [row for row in range(n) if row not in first]
    empty = {row for row in range(n) if not index[row].any()}
    rest.sort(key=lambda row: (row in empty, -float(query[0] @ index[row]), row))
    assert completed == [*first, *rest]


def test_metrics_equal_the_released_loop_over_the_whole_index() -> None:
    random = np.random.default_rng(3)
    descriptors = random.normal(size=(8, 4)).astype(np.float16)
    ranking = np.array([[4, 0, -1], [5, 1, 3]], np.int32)
    metrics = evaluate_protocol(ranking, table(**REVISITED), descriptors)
    whole = complete_ranking(ranking, descriptors[:2], descriptors[2:]).tolist()
    sets = {
        "easy": [({0, 1}, {5, 2}), None],
        "medium": [({0, 1, 2}, {5}), ({3}, set())],
        "hard": [({2}, {5, 0, 1}), ({3}, set())],
    }
    for protocol, queries in sets.items():
        expected = [
            slow_average_precision(ranked, *query)
            for ranked, query in zip(whole, queries, strict=True)
            if query is not None
        ]
        assert metrics[f"mAP_{protocol}"] == pytest.approx(np.mean(expected))
        low, high = metrics[f"mAP_{protocol}_low"], metrics[f"mAP_{protocol}_high"]
        assert low <= metrics[f"mAP_{protocol}"] <= high
    assert metrics["mP_at_1_hard"] == pytest.approx(0.0)


def test_arrays_of_other_tables_are_refused() -> None:
    with pytest.raises(LandmarkRetrievalError, match="does not fit descriptors of 2 queries and 3 index"):
        complete_ranking(np.full((1, 2), 0, np.int32), np.ones((2, 4)), np.ones((3, 4)))
    with pytest.raises(LandmarkRetrievalError, match="does not fit"):
        complete_ranking(np.full((2, 2), 7, np.int32), np.ones((2, 4)), np.ones((3, 4)))

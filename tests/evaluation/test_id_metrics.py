from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_references import gld_average_precision

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.evaluation import score_submission, summarise

SOLUTION = pd.DataFrame(
    {
        "id": ["q1", "q2", "q3", "q4"],
        "images": ["a b", "c", "None", "d"],
        "Usage": ["Public", "Private", "Ignored", "Public"],
    }
)


def submission(**images: str | None) -> pd.DataFrame:
    return pd.DataFrame({"id": list(images), "images": list(images.values())})


def evaluate(given: pd.DataFrame, solution: pd.DataFrame = SOLUTION) -> dict[str, float]:
    return summarise(score_submission(given, solution))


def test_by_hand() -> None:
    given = submission(q4="x d", q1="a a b", q3="c", q2=None)
    metrics = evaluate(given)
    ap = {"q1": (1 + 2 / 3) / 2, "q2": 0.0, "q4": 1 / 2}
    assert metrics["mAP_at_100"] == pytest.approx(sum(ap.values()) / 3)
    assert metrics["mAP_at_100_public"] == pytest.approx((ap["q1"] + ap["q4"]) / 2)
    assert metrics["mAP_at_100_private"] == 0
    assert metrics["mean_position"] == pytest.approx((1 + 101 + 2) / 3)
    assert metrics["queries"] == 3
    scores = score_submission(given, SOLUTION)
    assert scores["id"].tolist() == ["q1", "q2", "q3", "q4"]
    assert scores["AP_at_100"].round(6).fillna(-1).tolist() == [0.833333, 0, -1, 0.5]


def test_a_missing_query_counts_as_zero() -> None:
    whole = evaluate(submission(q1="a b", q2="", q4=""))
    assert evaluate(submission(q1="a b")) == whole
    assert whole["mAP_at_100"] == pytest.approx(1 / 3)
    empty = evaluate(submission())
    assert empty["mAP_at_100"] == 0 and empty["mean_position"] == 101


def test_results_after_the_hundredth_are_dropped() -> None:
    filler = " ".join(f"x{number}" for number in range(100))
    assert evaluate(submission(q2=f"{filler} c"))["mAP_at_100"] == 0


def test_without_usage() -> None:
    solution = pd.DataFrame({"id": ["q1", "q2"], "images": ["a", ""]})
    metrics = evaluate(submission(q1="a"), solution)
    assert metrics["mAP_at_100"] == 1 and "mAP_at_100_public" not in metrics


@pytest.mark.parametrize(
    ("given", "solution", "message"),
    [
        (submission(nobody="a"), SOLUTION, "query 'nobody' is not in the solution"),
        (pd.concat([submission(q1="a")] * 2), SOLUTION, "submission: query 'q1' is given twice"),
        (submission(q1="a"), pd.concat([SOLUTION] * 2), "solution: query 'q1' is given twice"),
        (pd.DataFrame({"id": ["q1"]}), SOLUTION, "submission: column images is missing"),
        (submission(q1="a"), pd.DataFrame({"images": ["a"]}), "solution: column id is missing"),
        (submission(q1="a"), SOLUTION.assign(Usage="public"), "Usage 'public' of query 'q1' is unknown"),
    ],
)
def test_bad_tables(given: pd.DataFrame, solution: pd.DataFrame, message: str) -> None:
    with pytest.raises(LandmarkRetrievalError, match=message) as caught:
        score_submission(given, solution)
    assert "\n" not in str(caught.value)


names = st.sampled_from([f"image{number}" for number in range(8)])


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(["a", "b", "c"]), st.sets(names, min_size=1), min_size=1),
    st.data(),
)
def test_against_the_literal_definition(truth: dict[str, set[str]], data: st.DataObject) -> None:
    guesses = data.draw(st.dictionaries(st.sampled_from(sorted(truth)), st.lists(names, max_size=12)))
    solution = pd.DataFrame({"id": list(truth), "images": [" ".join(sorted(ids)) for ids in truth.values()]})
    given = submission(**{query: " ".join(ids) for query, ids in guesses.items()})
    expected = sum(gld_average_precision(guesses.get(query, []), ids) for query, ids in truth.items())
    assert evaluate(given, solution)["mAP_at_100"] == pytest.approx(expected / len(truth))

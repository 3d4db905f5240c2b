from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.evaluation import make_submission, read_solution, read_submission, score_submission


def test_round_trip(tmp_path: Path) -> None:
    ranking = np.array([[2, 0, -1], [-1, -1, -1], [1, 2, 0]], np.int32)
    table = make_submission(ranking, np.array(["q,1", 'q"2', "NA"]), np.array(["a", "b", "null"]))
    assert table["images"].tolist() == ["null a", "", "b null a"]
    table.to_csv(tmp_path / "submission.csv", index=False)
    again = read_submission(tmp_path / "submission.csv")
    pd.testing.assert_frame_equal(again, table)


def test_at_most_a_hundred_results() -> None:
    ids = np.array([f"i{number}" for number in range(150)])
    table = make_submission(np.arange(150, dtype=np.int32)[None], ["q"], ids)
    assert table["images"][0].split() == ids[:100].tolist()


@pytest.mark.parametrize("bad", ["a b", "a\tb", "", " a", "a\n", "a\u00a0b"])
def test_ids_that_would_be_split_are_refused_by_name(bad: str) -> None:
    ranking = np.zeros((1, 1), np.int32)
    for queries, index in ((["q"], [bad]), ([bad], ["i"])):
        with pytest.raises(LandmarkRetrievalError, match="white space") as caught:
            make_submission(ranking, queries, index)
        assert repr(bad) in str(caught.value)


def test_misfits() -> None:
    with pytest.raises(LandmarkRetrievalError, match="1 rows for 2 queries"):
        make_submission(np.zeros((1, 1), np.int32), ["a", "b"], ["i"])
    with pytest.raises(LandmarkRetrievalError, match="index row 5 but there are 1"):
        make_submission(np.full((1, 1), 5, np.int32), ["a"], ["i"])


def test_solution_as_published(tmp_path: Path) -> None:
    path = tmp_path / "retrieval_solution.csv"
    path.write_text("id,images,Usage\nq1,a b,Public\nq2,None,Ignored\n")
    solution = read_solution(path)
    assert solution.to_dict("list") == {
        "id": ["q1", "q2"],
        "images": ["a b", "None"],
        "Usage": ["Public", "Ignored"],
    }
    assert score_submission(pd.DataFrame({"id": ["q1"], "images": ["b a"]}), solution)["AP_at_100"][0] == 1
    path.write_text("\ufeffid,images\nq1,a\n", encoding="utf-8")
    assert list(read_solution(path)) == ["id", "images"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        (b"", "not a table of id, images"),
        (b"\xff\xfe\x00\x01", "not a table of id, images"),
        (b'id,images\n"q', "not a table of id, images"),
        (b"query,images\nq,a\n", "column id is missing; expected id, images, found query, images"),
        (b"id,images\nq,a\nr,b\nq,c\n", "line 4: query 'q' is given twice"),
    ],
)
def test_bad_files(tmp_path: Path, text: bytes | None, message: str) -> None:
    path = tmp_path / "file.csv"
    if text is not None:
        path.write_bytes(text)
    with pytest.raises(LandmarkRetrievalError, match=message) as caught:
        read_submission(path)
    assert "file.csv" in str(caught.value) and "\n" not in str(caught.value)

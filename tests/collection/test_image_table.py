from __future__ import annotations

import io
import logging

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from landmark_retrieval.collection import (
    NO_LANDMARK,
    DataSetConfig,
    SplitRows,
    has_truth,
    landmark_names,
    landmark_of,
    prepare_image_table,
    read_image_folder,
    relevant_index_rows,
)
from landmark_retrieval.errors import LandmarkRetrievalError


def raw_table(**columns: list[object]) -> pd.DataFrame:
    table: dict[str, list[object]] = {
        "image_id": ["t", "i", "q", "j"],
        "path": ["t.jpg", "i.jpg", "q.jpg", "j.jpg"],
        "split": ["train", "index", "query", "index"],
        "landmark_id": [5, 5, 5, None],
    }
    return pd.DataFrame({**table, **columns}).dropna(axis=1, how="all")


def refusal(raw: pd.DataFrame) -> str:
    with pytest.raises(LandmarkRetrievalError) as caught:
        prepare_image_table(raw)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_orders_query_index_train_and_keeps_order_inside() -> None:
    table = prepare_image_table(raw_table())
    assert table["image_id"].tolist() == ["q", "i", "j", "t"]
    assert list(table.columns) == ["image_id", "path", "split", "landmark_id", "landmark", "usage"]
    assert isinstance(table.index, pd.RangeIndex)
    assert table["landmark_id"].dtype == "Int64"
    assert SplitRows.from_table(table) == SplitRows(slice(0, 1), slice(1, 3), slice(3, 4))
    assert len(SplitRows.from_table(table)) == 4
    assert landmark_of(table).tolist() == [5, 5, NO_LANDMARK, 5]


def test_names_of_landmarks() -> None:
    table = prepare_image_table(raw_table(landmark_id=[6, 5, 5, None], landmark=[None, "mill", "mill", None]))
    assert landmark_names(table) == {5: "mill", 6: "6"}


def test_is_stable_under_a_round_trip_through_csv() -> None:
    table = prepare_image_table(
        raw_table(image_id=["0001", "NA", "1e3", "007"], usage=[None, None, "Public", None])
    )
    text = table.to_csv(index=False)
    again = pd.read_csv(
        io.StringIO(text),
        dtype=dict.fromkeys(table.columns, "str"),
        keep_default_na=False,
        na_values=[""],
    )
    pd.testing.assert_frame_equal(prepare_image_table(again), table)


def test_demo(demo_root: object) -> None:
    table = prepare_image_table(read_image_folder(str(demo_root)))
    assert len(table) == 47
    assert [part.stop - part.start for part in vars(SplitRows.from_table(table)).values()] == [8, 31, 8]
    assert table["landmark_id"].nunique() == 7
    assert table["landmark_id"].isna().sum() == 18
    assert all(len(rows) for rows in relevant_index_rows(table))


@pytest.mark.parametrize(("name", "sizes"), [("sf101", (101, 101, 0)), ("vietnam5", (40, 448, 80))])
def test_shared_data_sets(shared_data_sets: object, name: str, sizes: tuple[int, ...]) -> None:
    rows = SplitRows.from_table(prepare_image_table(read_image_folder(f"{shared_data_sets}/{name}")))
    assert tuple(part.stop - part.start for part in (rows.query, rows.index, rows.train)) == sizes


def test_relevant_index_rows_count_inside_the_index() -> None:
    raw = pd.DataFrame(
        {
            "image_id": list("abcdefg"),
            "path": [f"{name}.jpg" for name in "abcdefg"],
            "split": ["index", "query", "index", "query", "index", "train", "query"],
            "landmark_id": [3, 3, None, None, 3, 3, 8],
        }
    )
    assert [rows.tolist() for rows in relevant_index_rows(prepare_image_table(raw))] == [[0, 2], [], []]


@given(
    st.lists(st.one_of(st.none(), st.integers(0, 4)), min_size=1, max_size=12),
    st.lists(st.one_of(st.none(), st.integers(0, 4)), min_size=1, max_size=12),
)
def test_relevant_index_rows_equals_a_plain_loop(queries: list[int | None], index: list[int | None]) -> None:
    table = pd.DataFrame(
        {
            "split": ["query"] * len(queries) + ["index"] * len(index),
            "landmark_id": pd.array(queries + index, dtype="Int64"),
        }
    )
    expected = [
        [row for row, label in enumerate(index) if label is not None and label == query] for query in queries
    ]
    found = relevant_index_rows(table)
    assert [rows.tolist() for rows in found] == expected
    assert all(rows.dtype == np.int64 for rows in found)


def test_landmark_ids_are_numbered_from_sorted_names() -> None:
    raw = raw_table(landmark_id=[None] * 4, landmark=["zoo", "abbey", "abbey", None])
    assert landmark_of(prepare_image_table(raw)).tolist() == [0, 0, NO_LANDMARK, 1]


def test_landmark_ids_win_over_names() -> None:
    table = prepare_image_table(raw_table(landmark=["a", "b", "c", "d"]))
    assert landmark_of(table).tolist() == [5, 5, 6, 5], "a row with only a name has a landmark of its own"
    table = prepare_image_table(raw_table(landmark=["a", None, None, " a "]))
    assert landmark_of(table).tolist() == [5, 5, 5, 5], "or that of its name"


@pytest.mark.parametrize("values", [["5", "5", "5", ""], ["5.0", " 5", "5 ", None], [5.0, 5.0, 5.0, None]])
def test_whole_numbers_in_any_spelling(values: list[object]) -> None:
    assert landmark_of(prepare_image_table(raw_table(landmark_id=values))).tolist() == [5, 5, NO_LANDMARK, 5]


@pytest.mark.parametrize("value", ["tower", "1.5", "-1", "1e3", "9" * 19, "nan"])
def test_refuses_other_landmark_ids(value: str) -> None:
    message = refusal(raw_table(landmark_id=["5", "5", "5", value]))
    assert f"'{value}'" in message and "row 3" in message and "landmark" in message


def test_names_the_duplicate_and_both_rows() -> None:
    message = refusal(raw_table(image_id=["t", "same", "q", "same"]))
    assert "'same'" in message and "rows 1 and 3" in message


@pytest.mark.parametrize("bad", ["a b", "a\tb", " a", "a\n", "a\u00a0b", "a,b", 'a"b'])
def test_refuses_ids_that_break_submissions(bad: str) -> None:
    message = refusal(raw_table(image_id=["t", "i", bad, "j"])) if "\n" not in bad else None
    if message is None:
        with pytest.raises(LandmarkRetrievalError):
            prepare_image_table(raw_table(image_id=["t", "i", bad, "j"]))
    else:
        assert bad in message and "row 2" in message


@pytest.mark.parametrize("empty", ["", None])
def test_refuses_empty_ids_paths_and_splits(empty: object) -> None:
    assert "image_id is empty" in refusal(raw_table(image_id=["t", "i", empty, "j"]))
    assert "'q' has no path" in refusal(raw_table(path=["a", "b", empty, "d"]))
    assert "'q' has no split" in refusal(raw_table(split=["train", "index", empty, "index"]))


def test_names_an_unknown_split_and_the_allowed_ones() -> None:
    message = refusal(raw_table(split=["train", "index", "query", "test"]))
    assert "'test'" in message and "row 3" in message and "'j'" in message
    assert "query, index, train" in message


def test_names_an_unknown_usage_and_the_allowed_ones() -> None:
    message = refusal(raw_table(usage=["", "Public", "public", ""]))
    assert "'public'" in message and "row 2" in message and "Public, Private, Ignored" in message


@pytest.mark.parametrize("column", ["image_id", "path"])
def test_names_a_missing_column(column: str) -> None:
    message = refusal(raw_table().drop(columns=column))
    assert f"column {column} is missing" in message


def test_refuses_tables_without_rows_or_index() -> None:
    assert "no rows" in refusal(raw_table().iloc[:0])
    assert "split 'index'" in refusal(raw_table(split=["train", "query", "query", "query"]))


@pytest.mark.parametrize(
    "columns",
    [
        {"landmark_id": [5, 6, 5, None]},
        {"landmark_id": [5, 5, None, None]},
        {"usage": ["", "", "Ignored", ""]},
    ],
)
def test_says_when_nothing_can_be_found(
    columns: dict[str, list[object]], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        assert not has_truth(prepare_image_table(raw_table(**columns)))
    assert "nothing is measured" in caplog.text


def test_photos_without_labels_are_asked_against_each_other() -> None:
    raw = pd.DataFrame({"image_id": list("abc"), "path": ["a.jpg", "b.jpg", "c.jpg"]})
    table = prepare_image_table(raw)
    rows = SplitRows.from_table(table)
    assert rows.asked == rows.index == slice(0, 3) and rows.among_themselves
    assert rows.own.tolist() == [0, 1, 2]
    assert [found.tolist() for found in relevant_index_rows(table)] == [[], [], []]
    assert not has_truth(table)


def test_with_queries_the_index_is_not_asked() -> None:
    rows = SplitRows.from_table(prepare_image_table(raw_table()))
    assert rows.asked == rows.query and not rows.among_themselves and rows.own.tolist() == [-1]


def test_leave_one_out_asks_every_photo_for_the_others() -> None:
    config = DataSetConfig(protocol="leave_one_out")
    table = prepare_image_table(raw_table(split=["query", "index", "query", "index"]), config)
    assert table["split"].tolist() == ["index"] * 4 and has_truth(table)
    assert [found.tolist() for found in relevant_index_rows(table)] == [[1, 2], [0, 2], [0, 1], []]
    drawn = raw_table().drop(columns="split")
    assert prepare_image_table(drawn, config)["split"].tolist() == ["index"] * 4
    kept = prepare_image_table(raw_table(), config)
    assert kept["split"].tolist() == ["index"] * 3 + ["train"], "labels that bridge stay what they are"
    listed = raw_table(split=["index"] * 4, relevant=["i q", "t", None, "t j"])
    found = [rows.tolist() for rows in relevant_index_rows(prepare_image_table(listed, config))]
    assert found == [[1, 2], [0], [], [0]], "none finds itself"


def test_an_empty_train_split_is_fine_and_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        table = prepare_image_table(raw_table(split=["index", "index", "query", "index"]))
    assert SplitRows.from_table(table).train == slice(4, 4)
    assert "equals plain EGT" in caplog.text


def test_an_unlabelled_query_is_fine_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    raw = raw_table(split=["query", "index", "query", "index"], landmark_id=[None, 5, 5, None])
    with caplog.at_level(logging.INFO):
        table = prepare_image_table(raw)
    assert [rows.tolist() for rows in relevant_index_rows(table)] == [[], [0]]
    assert "1 photos have no other of their landmark" in caplog.text


def test_other_columns_are_dropped_and_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        table = prepare_image_table(raw_table(Usage=["Public"] * 4))
    assert "Usage" not in table and "Usage" in caplog.text


def test_split_rows_refuse_another_order() -> None:
    with pytest.raises(LandmarkRetrievalError, match="order query, index, train"):
        SplitRows.from_table(raw_table())


def test_the_raw_table_is_left_alone() -> None:
    raw = raw_table()
    before = raw.copy(deep=True)
    prepare_image_table(raw)
    pd.testing.assert_frame_equal(raw, before)


def test_draws_splits_when_there_are_none() -> None:
    raw = pd.DataFrame(
        {
            "image_id": list("abcdef"),
            "path": [f"{name}.jpg" for name in "abcdef"],
            "landmark": ["l"] * 5 + [None],
        }
    )
    for table in (prepare_image_table(raw), prepare_image_table(raw.assign(split=None))):
        assert sorted(table["split"]) == ["index", "index", "index", "query", "train", "train"]


def test_drawing_fractions_are_checked() -> None:
    with pytest.raises(LandmarkRetrievalError, match="below 1"):
        DataSetConfig(query_fraction=0.5, train_fraction=0.5)
    with pytest.raises(LandmarkRetrievalError, match="did you mean 'query_fraction'"):
        DataSetConfig(query_fractoin=0.5)  # type: ignore[call-arg]

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from landmark_retrieval.collection import prepare_image_table, relevant_index_rows
from landmark_retrieval.collection.gldv2 import SOLUTION, read_gldv2
from landmark_retrieval.errors import LandmarkRetrievalError

TABLES = {
    "test.csv": "id\naaa1\nbbb2\nccc3\nddd4\n",
    "index.csv": "id\neee5\nfff6\nggg7\n",
    "train.csv": "id,url,landmark_id\nhhh8,http://x/1.jpg,7\niii9,http://x/2.jpg,7\njjj0,http://x/3.jpg,11\n",
    "train_clean.csv": "landmark_id,images\n7,iii9 hhh8\n",
    SOLUTION: "id,images,Usage\nddd4,ggg7 eee5,Private\naaa1,eee5 fff6,Public\n"
    "bbb2,None,Ignored\nccc3,None,Public\n",
}
IMAGES = ("test/a/a/a/aaa1", "index/e/e/e/eee5", "train/h/h/h/hhh8")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in TABLES.items():
        (tmp_path / name).write_text(text)
    for name in IMAGES:
        file = tmp_path / f"{name}.jpg"
        file.parent.mkdir(parents=True)
        Image.new("RGB", (20, 20)).save(file)
    return tmp_path


def test_the_published_files_become_a_table(root: Path) -> None:
    raw = read_gldv2(root)
    assert raw["image_id"].tolist() == [
        *("aaa1", "bbb2", "ccc3", "ddd4", "eee5", "fff6", "ggg7", "hhh8", "iii9", "jjj0")
    ]
    assert raw["split"].tolist() == ["query"] * 4 + ["index"] * 3 + ["train"] * 3
    assert raw["path"].tolist()[0] == str(root / "test/a/a/a/aaa1.jpg")
    assert raw["path"].tolist()[9] == str(root / "train/j/j/j/jjj0.jpg")
    table = prepare_image_table(raw)
    assert table["landmark_id"].tolist() == [pd.NA] * 7 + [7, 7, 11]
    assert table["usage"].fillna("").tolist() == ["Public", "Ignored", "Public", "Private"] + [""] * 6
    assert [rows.tolist() for rows in relevant_index_rows(table)] == [[0, 1], [], [], [0, 2]]


def test_the_stored_table_gives_the_same(root: Path, tmp_path: Path) -> None:
    table = prepare_image_table(read_gldv2(root))
    table.to_csv(tmp_path / "t.csv", index=False)
    dtype = {"image_id": str, "landmark_id": "Int64", "usage": str, "relevant": str}
    again = pd.read_csv(tmp_path / "t.csv", dtype=dtype, keep_default_na=False, na_values=[""])
    for mine, other in zip(relevant_index_rows(table), relevant_index_rows(again), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_clean_or_no_train_images(root: Path) -> None:
    clean = read_gldv2(root, train="clean")
    assert clean[clean["split"] == "train"]["image_id"].tolist() == ["iii9", "hhh8"]
    assert clean["landmark_id"].dropna().astype(int).tolist() == [7, 7]
    none = prepare_image_table(read_gldv2(root, train="none"))
    assert none["split"].unique().tolist() == ["query", "index"]


def test_only_scored_queries(root: Path) -> None:
    raw = read_gldv2(root, queries="scored")
    assert raw[raw["split"] == "query"]["image_id"].tolist() == ["aaa1", "ddd4"]


def test_tables_may_lie_in_folders(root: Path) -> None:
    for name, folder in (("index.csv", "index"), ("train.csv", "metadata"), (SOLUTION, "ground_truth")):
        (root / folder).mkdir(exist_ok=True)
        (root / name).rename(root / folder / name)
    assert len(read_gldv2(root)) == 10


def test_a_test_image_without_a_solution_is_ignored(root: Path) -> None:
    (root / SOLUTION).write_text("id,images,Usage\naaa1,eee5,Public\n")
    table = prepare_image_table(read_gldv2(root))
    assert table["usage"].tolist()[:4] == ["Public", "Ignored", "Ignored", "Ignored"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (SOLUTION, None, r"retrieval_solution_v2.1.csv is missing; get it with .kedro data-set download"),
        ("train.csv", None, "train.csv is missing"),
        ("index.csv", "image\neee5\n", r"index.csv: column id is missing; expected id, found image"),
        ("train.csv", "id,url\nhhh8,x\n", "train.csv: column landmark_id is missing"),
        ("index.csv", "", "index.csv: cannot be read as a table"),
        ("index.csv", "id\n", "table of the index set is empty"),
        ("test.csv", "id\naaa1\n../x\n", r"(\.\./x.*no image id|not in test.csv)"),
        (SOLUTION, "id,images,Usage\nzzz9,eee5,Public\n", "names query 'zzz9', which is not in test.csv"),
        (SOLUTION, "id,images,Usage\naaa1,eee5,Public\naaa1,eee5,Public\n", "query 'aaa1' twice"),
        ("index.csv", "id\nxxx1\n", r"no image of the index set is there, such as .*index/x/x/x/xxx1.jpg"),
    ],
)
def test_what_is_wrong_is_named(root: Path, name: str, text: str | None, message: str) -> None:
    (root / name).unlink() if text is None else (root / name).write_text(text)
    with pytest.raises(LandmarkRetrievalError, match=message):
        read_gldv2(root)


def test_a_relevant_image_must_be_in_the_index(root: Path) -> None:
    (root / SOLUTION).write_text("id,images,Usage\naaa1,eee5 hhh8,Public\n")
    with pytest.raises(LandmarkRetrievalError, match="query 'aaa1' lists 'hhh8' as relevant"):
        prepare_image_table(read_gldv2(root))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(LandmarkRetrievalError, match="no such folder; give the folder of GLDv2 with"):
        read_gldv2(tmp_path / "nowhere")


def test_relevance_is_by_list_where_lists_overlap() -> None:
    raw = pd.DataFrame(
        {
            "image_id": ["i1", "q1", "i2", "q2", "i3"],
            "path": ["1.jpg", "2.jpg", "3.jpg", "4.jpg", "5.jpg"],
            "split": ["index", "query", "index", "query", "index"],
            "landmark_id": [1, 2, 1, 2, 2],
            "relevant": [None, "i3 i1 i3", None, "i1", None],
        }
    )
    assert [rows.tolist() for rows in relevant_index_rows(prepare_image_table(raw))] == [[0, 2], [0]]

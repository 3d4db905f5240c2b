from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from landmark_retrieval.collection import prepare_image_table, relevant_index_rows
from landmark_retrieval.collection.image_table import listed_index_rows
from landmark_retrieval.collection.plain_pickle import read_plain_pickle
from landmark_retrieval.collection.revisited import read_revisited
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.images import CroppedImage, image_sources, load_image

INDEX = ["oxford_000001", "oxford_000002", "oxford_000003", "oxford_000004"]
QUERIES = ["all_souls_000013", "radcliffe_000095"]
TRUTH = [
    {"easy": [0], "hard": [2], "junk": [1], "bbx": [136.5, 34.1, 648.5, 955.7]},
    {"easy": [], "hard": [3, 1], "junk": [], "bbx": [10.0, 0.0, 40.0, 30.0]},
]


def write_pickle(file: Path, protocol: int = 2, **changes: Any) -> None:
    content = {"imlist": INDEX, "qimlist": QUERIES, "gnd": TRUTH, **changes}
    file.write_bytes(
        pickle.dumps({key: value for key, value in content.items() if value is not None}, protocol)
    )


def write_mat(file: Path) -> None:
    records = np.zeros((1, 2), dtype=[(name, object) for name in ("bbx", "easy", "hard", "junk")])
    for number, entry in enumerate(TRUTH):
        for kind in ("easy", "hard", "junk"):
            records[0, number][kind] = np.array([[row + 1 for row in entry[kind]]], dtype=np.float64)
        records[0, number]["bbx"] = np.array([entry["bbx"]])
    names = {
        key: np.array([[name] for name in value], dtype=object)
        for key, value in (("imlist", INDEX), ("qimlist", QUERIES))
    }
    savemat(file, {**names, "gnd": records})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "roxford5k"
    (folder / "jpg").mkdir(parents=True)
    for number, name in enumerate(INDEX + QUERIES):
        pixels = np.zeros((60, 80, 3), np.uint8)
        pixels[:, :, 0] = np.arange(80) * 3
        pixels[:, :, 1] = np.arange(60)[:, None] * 4
        pixels[:, :, 2] = number
        Image.fromarray(pixels).save(folder / "jpg" / f"{name}.jpg", quality=95)
    write_pickle(folder / "gnd_roxford5k.pkl")
    return folder


def check(raw: Any) -> None:
    assert raw["image_id"].tolist() == QUERIES + INDEX
    table = prepare_image_table(raw)
    assert [rows.tolist() for rows in relevant_index_rows(table)] == [[0, 2], [1, 3]]
    assert [rows.tolist() for rows in listed_index_rows(table, "hard")] == [[2], [1, 3]]
    assert [rows.tolist() for rows in listed_index_rows(table, "junk")] == [[1], []]
    assert table["crop"].fillna("").tolist() == ["136.5 34.1 648.5 955.7", "10 0 40 30", "", "", "", ""]
    assert table["landmark_id"].isna().all()


@pytest.mark.parametrize("protocol", range(6))
def test_ground_truth_as_a_pickle(folder: Path, protocol: int) -> None:
    write_pickle(folder / "gnd_roxford5k.pkl", protocol)
    check(read_revisited(folder, "roxford5k"))


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_lists_may_be_arrays(folder: Path, protocol: int) -> None:
    arrays = [{key: np.array(value) for key, value in entry.items()} for entry in TRUTH]
    write_pickle(folder / "gnd_roxford5k.pkl", protocol, gnd=arrays)
    check(read_revisited(folder, "roxford5k"))


def test_ground_truth_as_a_matlab_file(folder: Path) -> None:
    (folder / "gnd_roxford5k.pkl").unlink()
    write_mat(folder / "gnd_roxford5k.mat")
    check(read_revisited(folder, "roxford5k"))


def test_the_folder_may_be_within_another(folder: Path) -> None:
    assert len(read_revisited(folder.parent, "roxford5k")) == 6
    (folder.parent / "datasets").mkdir()
    folder.rename(folder.parent / "datasets" / "roxford5k")
    assert len(read_revisited(folder.parent, "roxford5k")) == 6


def test_queries_are_loaded_cropped(folder: Path) -> None:
    sources = image_sources(prepare_image_table(read_revisited(folder, "roxford5k")))
    query = sources[1]
    assert query == CroppedImage(str(folder / "jpg/radcliffe_000095.jpg"), (10, 0, 40, 30))
    image = load_image(query)
    assert image.size == (30, 30)
    whole = Image.open(folder / "jpg/radcliffe_000095.jpg").convert("RGB")
    np.testing.assert_array_equal(np.asarray(image), np.asarray(whole)[0:30, 10:40])
    assert sources[2] == str(folder / "jpg/oxford_000001.jpg")


def test_distractors_join_the_index(folder: Path) -> None:
    place = folder.parent / "revisitop1m"
    (place / "jpg" / "1").mkdir(parents=True)
    (place / "revisitop1m.txt").write_text("1/1000.jpg\n2/2000\n")
    raw = read_revisited(folder.parent, "roxford5k", distractors=True)
    assert raw["image_id"].tolist()[-2:] == ["revisitop1m/1/1000", "revisitop1m/2/2000"]
    assert raw["path"].tolist()[-2:] == [str(place / "jpg/1/1000.jpg"), str(place / "jpg/2/2000.jpg")]
    assert [rows.tolist() for rows in relevant_index_rows(prepare_image_table(raw))] == [[0, 2], [1, 3]]


def test_missing_distractors_are_named(folder: Path) -> None:
    with pytest.raises(LandmarkRetrievalError, match=r"revisitop1m/revisitop1m\.txt is not there"):
        read_revisited(folder, "roxford5k", distractors=True)


class Harmful:
    def __reduce__(self) -> Any:
        return os.system, ("exit 1",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"imlist": None}, "imlist is missing"),
        ({"gnd": TRUTH[:1]}, "gnd is not a list of 2 queries"),
        ({"gnd": [TRUTH[0], {"ok": [1], "bbx": [0, 0, 9, 9]}]}, "no list 'easy'"),
        ({"gnd": [TRUTH[0], {**TRUTH[1], "junk": [4]}]}, "names an image beyond the 4"),
        ({"gnd": [TRUTH[0], {**TRUTH[1], "bbx": [1, 2, 3]}]}, "no box 'bbx' of four numbers"),
        ({"imlist": ["../../secret", *INDEX[1:]]}, "which is no image name"),
        ({"gnd": Harmful()}, "refused, as it is damaged or holds more than plain data"),
        (
            {"imlist": [f"other{number}" for number in range(4)], "qimlist": ["a", "b"]},
            "no image of roxford5k",
        ),
    ],
)
def test_what_is_wrong_is_named(folder: Path, changes: dict[str, Any], message: str) -> None:
    write_pickle(folder / "gnd_roxford5k.pkl", **changes)
    with pytest.raises(LandmarkRetrievalError, match=message):
        read_revisited(folder, "roxford5k")


def test_damaged_files_are_refused(folder: Path) -> None:
    file = folder / "gnd_roxford5k.pkl"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(LandmarkRetrievalError, match="damaged"):
        read_revisited(folder, "roxford5k")
    file.unlink()
    with pytest.raises(LandmarkRetrievalError, match=r"gnd_roxford5k.pkl \(or .mat\) is not there"):
        read_revisited(folder, "roxford5k")
    (folder / "gnd_roxford5k.mat").write_bytes(b"no matlab file")
    with pytest.raises(LandmarkRetrievalError, match="cannot be read as ground truth"):
        read_revisited(folder, "roxford5k")


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_plain_data_round_trip(tmp_path: Path, protocol: int) -> None:
    content = {
        "whole": np.arange(6).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "objects": np.array([[1, 2], "x"], dtype=object),
        "numbers": [np.float32(1.5), np.int64(-3), 7, True, None],
        "text": "Köln",
        "bytes": b"\xff\x00",
    }
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content, protocol))
    read = read_plain_pickle(tmp_path / "x.pkl")
    np.testing.assert_array_equal(read["whole"], content["whole"])
    np.testing.assert_array_equal(read["fortran"], content["fortran"])
    assert read["objects"].tolist() == [[1, 2], "x"]
    assert [read[key] for key in ("numbers", "text", "bytes")] == [
        content[key] for key in ("numbers", "text", "bytes")
    ]


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_nothing_in_a_pickle_is_executed(tmp_path: Path, protocol: int) -> None:
    class Touch:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "touched",)

    for number, harmful in enumerate(
        [Harmful(), Touch(), np.array([Harmful()], dtype=object), eval, np.save]
    ):
        try:
            data = pickle.dumps({"gnd": harmful}, protocol)
        except Exception:
            continue
        (tmp_path / f"{number}.pkl").write_bytes(data)
        with pytest.raises(LandmarkRetrievalError, match="refused"):
            read_plain_pickle(tmp_path / f"{number}.pkl")
    assert not (tmp_path / "touched").exists()

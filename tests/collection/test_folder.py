from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pandas as pd
import pytest

from landmark_retrieval.collection import (
    SplitRows,
    has_truth,
    prepare_collection,
    prepare_image_table,
    read_collection,
    read_image_folder,
)
from landmark_retrieval.errors import LandmarkRetrievalError

HEADER = "image_id,path,split,landmark_id\n"


def write(folder: Path, text: str | bytes, *images: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    data = text.encode() if isinstance(text, str) else text
    (folder / "images.csv").write_bytes(data)
    for image in images:
        (folder / image).parent.mkdir(parents=True, exist_ok=True)
        (folder / image).write_bytes(b"picture")
    return folder


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"picture")


def refusal(root: Path, **options: bool) -> str:
    with pytest.raises(LandmarkRetrievalError) as caught:
        prepare_image_table(read_image_folder(root, **options))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_reads_a_table_as_text(tmp_path: Path) -> None:
    folder = write(tmp_path, HEADER + "0001,a.jpg,query,7\nNA,b.jpg,index,7\n1e5,c.jpg,index,\n", "a.jpg")
    raw = read_image_folder(folder)
    assert raw["image_id"].tolist() == ["0001", "NA", "1e5"]
    assert raw["path"].tolist() == [str(tmp_path / name) for name in ("a.jpg", "b.jpg", "c.jpg")]
    assert raw.index.tolist() == [2, 3, 4]
    assert prepare_image_table(raw)["landmark_id"].isna().tolist() == [False, False, True]


def test_a_rendered_set_round_trips(tiny_data_set: Callable[..., Path]) -> None:
    table = prepare_image_table(read_image_folder(tiny_data_set()))
    assert table["split"].value_counts().to_dict() == {"index": 8, "train": 6, "query": 3}
    assert all(Path(path).is_file() for path in table["path"])


def test_the_table_itself_may_be_named(tmp_path: Path) -> None:
    folder = write(tmp_path, HEADER + "a,a.jpg,query,7\n", "a.jpg")
    (folder / "images.csv").rename(folder / "mine.csv")
    assert read_image_folder(folder / "mine.csv")["image_id"].tolist() == ["a"]


def test_accepts_a_byte_order_mark_blank_lines_and_spaced_headers(tmp_path: Path) -> None:
    text = "\ufeffimage_id, path,split ,landmark_id\r\na,a.jpg,query,1\r\n\r\nb,b.jpg,index,1\r\n"
    raw = read_image_folder(write(tmp_path, text, "a.jpg"))
    assert raw.index.tolist() == [2, 4]
    assert len(prepare_image_table(raw)) == 2


def test_errors_name_file_and_line(tmp_path: Path) -> None:
    folder = write(tmp_path, HEADER + "a,a.jpg,query,1\n\nb,b.jpg,index,1\na,c.jpg,index,1\n", "a.jpg")
    message = refusal(folder)
    assert str(folder / "images.csv") in message and "lines 2 and 5" in message
    write(tmp_path, HEADER + "a,a.jpg,query,1\nb,b.jpg,idnex,1\n")
    assert "line 3" in refusal(folder)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        (HEADER, "no rows"),
        ("image_id|path|split|landmark_id\na|a.jpg|query|1\n", "column image_id, path is missing"),
        (HEADER + "a,a.jpg,query,1,more\n", "more fields"),
        (HEADER + "a,a.jpg,query,1\nb,b.jpg,index,1,more\n", "line 3"),
        (HEADER + 'a,"a.jpg,query,1\n', "cannot be read"),
        ("image_id,path,path,landmark_id\na,a.jpg,b.jpg,1\n", "twice"),
        (HEADER.encode() + b"a,\xff\xfe.jpg,query,1\n", "UTF-8"),
        (HEADER + "a,a.jpg,query,1\nb,b.jpg\n", "no split"),
        (HEADER + "a,,query,1\n", "no path"),
    ],
)
def test_refuses_damaged_tables(tmp_path: Path, text: str | bytes, words: str) -> None:
    folder = write(tmp_path, text, "a.jpg")
    message = refusal(folder)
    assert words in message and "images.csv" in message


def test_single_missing_files_pass_but_not_all(tmp_path: Path) -> None:
    folder = write(tmp_path, HEADER + "a,a.jpg,query,1\nb,b.jpg,index,1\n", "b.jpg")
    assert len(read_image_folder(folder)) == 2
    (folder / "b.jpg").unlink()
    message = refusal(folder)
    assert "none of its 2 image files exists" in message and str(folder) in message


@pytest.mark.parametrize("path", ["../outside.jpg", "images/../../outside.jpg", "/etc/hostname", ".."])
def test_paths_must_stay_in_the_folder(tmp_path: Path, path: str) -> None:
    folder = write(tmp_path / "photos", HEADER + f"a,a.jpg,query,1\nb,{path},index,1\n", "a.jpg")
    message = refusal(folder)
    assert path in message and "line 3" in message and "allow_outside" in message
    assert len(read_image_folder(folder, allow_outside=True)) == 2


def test_a_sibling_with_the_same_beginning_is_outside(tmp_path: Path) -> None:
    folder = write(tmp_path / "photos", HEADER + "a,a.jpg,query,1\nb,../photos2/b.jpg,index,1\n", "a.jpg")
    assert "photos2" in refusal(folder)


def test_paths_inside_may_be_absolute_or_winding(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    write(folder, HEADER + f"a,{folder}/a.jpg,query,1\nb,x/../b..c.jpg,index,1\n", "a.jpg", "b..c.jpg")
    (folder / "x").mkdir()
    assert all(Path(path).is_file() for path in read_image_folder(folder)["path"])


def test_a_linked_folder_and_linked_images_are_fine(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", HEADER + "a,a.jpg,query,1\n", "a.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    absolute = write(tmp_path / "elsewhere", HEADER + f"a,{tmp_path}/elsewhere/a.jpg,query,1\n")
    assert len(read_image_folder(tmp_path / "link")) == 1
    assert len(read_image_folder(absolute)) == 1


def test_sub_folders_are_landmarks(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "Notre Dame/b 1.JPG",
        "Notre Dame/a.jpeg",
        "Notre Dame/deep/er/c.PNG",
        "tower/x.webp",
        "tower/x.tiff",
        "tower/notes.txt",
        "distractors/d.gif",
        "_other/e.bmp",
        "loose.tif",
        ".hidden/h.jpg",
        "tower/._x.jpg",
    )
    raw = read_image_folder(tmp_path)
    assert dict(
        zip(raw["image_id"], raw["landmark"].astype(object).where(raw["landmark"].notna(), None), strict=True)
    ) == {
        "Notre_Dame/a": "Notre Dame",
        "Notre_Dame/b_1": "Notre Dame",
        "Notre_Dame/deep/er/c": "Notre Dame",
        "_other/e": None,
        "distractors/d": None,
        "loose": None,
        "tower/x": "tower",
        "tower/x-2": "tower",
    }
    assert all(Path(path).is_file() for path in raw["path"])
    assert "split" not in raw
    table = prepare_image_table(raw)
    assert table["split"].value_counts().to_dict() == {"index": 6, "query": 2}
    assert table["image_id"].is_unique and not table["image_id"].str.contains(r"\s").any()


def test_ids_stay_unique_when_numbers_collide(tmp_path: Path) -> None:
    touch(tmp_path, "l/a.jpg", "l/a.png", "l/a-2.jpg", "l/a 2.jpg", "l/a_2.jpg", "m/b,c.jpg", 'm/b"c.jpg')
    ids = read_image_folder(tmp_path)["image_id"]
    assert ids.is_unique and not ids.str.contains(r'[\s,"]').any()


def test_the_order_of_the_file_system_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, *(f"l{number % 4}/{number}.jpg" for number in range(40)))
    straight = prepare_image_table(read_image_folder(tmp_path))
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: nullcontext(list(scandir(path))[::-1]))
    assert prepare_image_table(read_image_folder(tmp_path)).equals(straight)


def test_says_what_it_expects(tmp_path: Path) -> None:
    for root in (tmp_path / "nowhere", tmp_path):
        message = refusal(root)
        assert str(root) in message and "images.csv" in message and "sub-folder" in message
    touch(tmp_path, "l/notes.txt", ".hidden.jpg")
    assert "no photos here (1 hidden, 1 not a picture)" in refusal(tmp_path)


def test_landmarks_with_single_images_leave_nothing_to_find(tmp_path: Path) -> None:
    touch(tmp_path, "l/a.jpg", "m/b.jpg")
    table = prepare_image_table(read_image_folder(tmp_path))
    assert SplitRows.from_table(table).among_themselves and not has_truth(table)


def test_a_flat_folder_and_one_sub_folder_have_no_landmarks(tmp_path: Path) -> None:
    touch(tmp_path / "flat", "a.jpg", "b.jpg")
    touch(tmp_path / "one", "holiday/a.jpg", "holiday/b.jpg", "c.jpg")
    touch(tmp_path / "explicit", "tower/a.jpg", "distractors/b.jpg")
    touch(tmp_path / "two", "tower/a.jpg", "mill/b.jpg")
    assert "landmark" not in read_image_folder(tmp_path / "flat")
    assert "landmark" not in read_image_folder(tmp_path / "one")
    assert read_image_folder(tmp_path / "explicit")["landmark"].dropna().tolist() == ["tower"]
    assert sorted(read_image_folder(tmp_path / "two")["landmark"]) == ["mill", "tower"]
    assert "landmark" not in read_image_folder(tmp_path / "two", labels="none")


def test_labels_of_a_table_can_be_left_aside(tmp_path: Path) -> None:
    folder = write(tmp_path, HEADER + "0001,a.jpg,query,1\nNA,b.jpg,index,1\n", "a.jpg", "b.jpg")
    raw = read_image_folder(folder, labels="none")
    assert list(raw) == ["image_id", "path"] and raw["image_id"].tolist() == ["0001", "NA"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("images.csv", "Path;Image_ID;Landmark ID\na.jpg;00012;1\nb, c.jpg;1e5;\n"),
        ("images.tsv", "path\timage-id\tlandmark_id\na.jpg\t00012\t1\nb, c.jpg\t1e5\t\n"),
        ("Images.csv", '\ufeffpath,image_id,landmark_id\r\na.jpg,00012,1\r\n"b, c.jpg",1e5,\r\n'),
    ],
)
def test_tables_as_programs_write_them(tmp_path: Path, name: str, text: str) -> None:
    touch(tmp_path, "a.jpg", "b, c.jpg")
    for data in (text.encode(), text.removeprefix("\ufeff").encode("utf-16")):
        (tmp_path / name).write_bytes(data)
        raw = read_image_folder(tmp_path)
        assert raw["image_id"].tolist() == ["00012", "1e5"]
        assert [Path(path).name for path in raw["path"]] == ["a.jpg", "b, c.jpg"]
        assert raw["landmark_id"].tolist()[0] == "1" and raw["landmark_id"].isna().tolist() == [False, True]


def test_parquet_tables(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    table = pd.DataFrame({"path": ["a.jpg", "b.jpg", "c.jpg"], "image_id": ["NA", "True", "007"]})
    table.assign(landmark_id=pd.array([1, None, 1], dtype="Int64"), split="index").to_parquet(
        tmp_path / "images.parquet"
    )
    raw = read_image_folder(tmp_path)
    assert raw["image_id"].tolist() == ["NA", "True", "007"]
    assert raw["landmark_id"].fillna("none").tolist() == ["1", "none", "1"]


def test_only_paths_are_needed(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.jpg", "x/a.png", "b 1.jpg")
    (tmp_path / "images.csv").write_text("path\nx/a.jpg\nx/a.png\nb 1.jpg\n")
    assert read_image_folder(tmp_path)["image_id"].tolist() == ["x/a", "x/a-2", "b_1"]


@pytest.mark.parametrize(
    ("written", "on_disk"),
    [
        (unicodedata.normalize("NFC", "Café.jpg"), unicodedata.normalize("NFD", "Café.jpg")),
        (unicodedata.normalize("NFD", "Café.jpg"), unicodedata.normalize("NFC", "Café.jpg")),
        ("img.jpg", "IMG.JPG"),
        (" img.jpg ", "img.jpg"),
        (r"Album\img.jpg", "Album/img.jpg"),
        ("album/CAFÉ.jpg", unicodedata.normalize("NFD", "Album/Café.JPG")),
    ],
)
def test_names_are_found_however_they_are_written(
    tmp_path: Path, written: str, on_disk: str, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, on_disk, "other.jpg")
    (tmp_path / "images.csv").write_text(f'path\n"{written}"\nother.jpg\n')
    raw = read_collection(tmp_path)
    assert Path(raw.table["path"].iloc[0]) == tmp_path / on_disk
    assert raw.files["what"].tolist() == ["used", "used", "table"]
    assert "written differently" in caplog.text and written in raw.files["why"].iloc[0]


def test_a_name_that_could_mean_two_files_is_missing(tmp_path: Path) -> None:
    touch(tmp_path, "IMG.jpg", "Img.jpg", "other.jpg", "loose.jpg")
    (tmp_path / "images.csv").write_text("path\nimg.jpg\nother.jpg\n")
    files = read_collection(tmp_path).files.set_index("path")["what"].to_dict()
    assert files == {
        "img.jpg": "missing",
        "other.jpg": "used",
        "IMG.jpg": "not listed",
        "Img.jpg": "not listed",
        "loose.jpg": "not listed",
        "images.csv": "table",
    }


def test_one_file_is_one_image(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "link.jpg").symlink_to("a.jpg")
    (tmp_path / "images.csv").write_text("path,split\na.jpg,query\nlink.jpg,query\nb.jpg,index\n")
    raw = read_collection(tmp_path)
    assert raw.table["image_id"].tolist() == ["a", "b"]
    assert raw.files.set_index("path").loc["link.jpg", ["what", "other"]].tolist() == [
        "linked twice",
        "a.jpg",
    ]
    (tmp_path / "images.csv").write_text("path,split\na.jpg,query\nlink.jpg,index\nb.jpg,index\n")
    assert "lines 2 and 3: one file has split 'query' and 'index'" in refusal(tmp_path)


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    (tmp_path / "images.csv").write_text(
        HEADER + "a,a.jpg,query,1\na,../x.jpg,index,tower\nb c,c.jpg,idnex,1\nd,,index,1\n"
    )
    with pytest.raises(LandmarkRetrievalError) as caught:
        prepare_collection(read_collection(tmp_path))
    lines = str(caught.value).splitlines()
    assert lines[0] == f"{tmp_path / 'images.csv'}: 6 faults"
    for place, words in (
        ("line 3:", "leaves the folder"),
        ("lines 2 and 3:", "duplicate image_id 'a'"),
        ("line 4:", "'b c' holds white space"),
        ("line 5:", "no path"),
        ("line 4:", "split 'idnex'"),
        ("line 3:", "landmark_id 'tower'"),
    ):
        assert any(line.startswith(f"- {place}") and words in line for line in lines), words


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "closed/b.jpg")
    (tmp_path / "closed").chmod(0)
    files = read_collection(tmp_path).files.set_index("path")["what"].to_dict()
    (tmp_path / "closed").chmod(0o700)
    assert files == {"a.jpg": "used", "closed": "cannot be read"}

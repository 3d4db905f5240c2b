"""Readers of descriptor files: every format gives the rows and ids that were written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest

from landmark_retrieval.descriptors.files import read_descriptors
from landmark_retrieval.errors import LandmarkRetrievalError

ROWS = np.arange(12, dtype=np.float32).reshape(4, 3)
IDS = ["00012", "b", "sub/c.jpg", "d"]


def write_vecs(path: Path, rows: np.ndarray) -> None:
    """Write rows one by one, as the format is described."""
    with path.open("wb") as file:
        for row in rows:
            np.array([len(row)], "<i4").tofile(file)
            row.tofile(file)


def write_hloc(path: Path, ids: list[str], rows: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        for name, row in zip(ids, rows, strict=True):
            file.create_group(name).create_dataset("global_descriptor", data=row)


WRITERS: dict[str, Callable[[Path], object]] = {
    "x.npy": lambda path: np.save(path, ROWS),
    "x.npz": lambda path: np.savez(path, features=ROWS, ids=np.array(IDS)),
    "x.parquet": lambda path: pd.DataFrame({"image_id": IDS, "vector": list(ROWS)}).to_parquet(path),
    "columns.parquet": lambda path: pd.DataFrame(ROWS, columns=list("uvw")).assign(id=IDS).to_parquet(path),
    "x.fvecs": lambda path: write_vecs(path, ROWS),
    "x.bvecs": lambda path: write_vecs(path, ROWS.astype(np.uint8)),
    "x.h5": lambda path: write_hloc(path, IDS, ROWS),
}
WITH_IDS = ("x.npz", "x.parquet", "columns.parquet", "x.h5")


@pytest.mark.parametrize("name", WRITERS)
def test_reads_what_was_written(tmp_path: Path, name: str) -> None:
    """Rows and ids come back, whatever the format; formats without ids say so."""
    WRITERS[name](tmp_path / name)
    found = read_descriptors(tmp_path / name)
    if name in WITH_IDS:
        stored = dict(zip(found.ids.tolist(), np.asarray(found.matrix, np.float32), strict=True))
        assert {key: row.tolist() for key, row in stored.items()} == dict(
            zip(IDS, ROWS.tolist(), strict=True)
        )
    else:
        assert found.ids is None
        np.testing.assert_array_equal(found.matrix, ROWS)


@pytest.mark.parametrize("name", ["x.txt", "x.csv"])
def test_a_list_beside_the_file_gives_the_ids(tmp_path: Path, name: str) -> None:
    """Ids keep their leading zeros; a byte order mark is no part of the first one."""
    np.save(tmp_path / "x.npy", ROWS)
    header = "image_id\n" if name.endswith("csv") else ""
    (tmp_path / name).write_text("\ufeff" + header + "\n".join(IDS) + "\n", encoding="utf-8")
    found = read_descriptors(tmp_path / "x.npy")
    assert found.ids.tolist() == IDS
    assert name in found.ids_from


def test_a_list_that_is_named_comes_before_ids_in_the_file(tmp_path: Path) -> None:
    """Who names a list means it."""
    WRITERS["x.npz"](tmp_path / "x.npz")
    (tmp_path / "other.txt").write_text("1\n2\n3\n4\n")
    assert read_descriptors(tmp_path / "x.npz", tmp_path / "other.txt").ids.tolist() == list("1234")


def test_a_header_line_in_the_list_of_ids_is_guessed(tmp_path: Path) -> None:
    """One id too many is named with its probable reason."""
    np.save(tmp_path / "x.npy", ROWS)
    (tmp_path / "x.txt").write_text("image_id\n" + "\n".join(IDS))
    with pytest.raises(LandmarkRetrievalError, match=r"x\.npy: 4 rows but 5 .*header line"):
        read_descriptors(tmp_path / "x.npy")


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("gone.npy", lambda path: None, "no such file"),
        ("x.pt", lambda path: path.write_bytes(b"x"), "are read from .npy"),
        ("flat.npy", lambda path: np.save(path, np.ones(5)), r"shape \(5,\)"),
        ("cube.npy", lambda path: np.save(path, np.ones((2, 2, 2))), r"shape \(2, 2, 2\)"),
        ("empty.npy", lambda path: np.save(path, np.ones((0, 4))), r"shape \(0, 4\)"),
        ("words.npy", lambda path: np.save(path, np.array([["a", "b"]])), "numbers"),
        ("objects.npy", lambda path: np.save(path, np.array([{}], object)), "cannot be read"),
        ("cut.npy", lambda path: path.write_bytes(b"\x93NUMPY"), "cannot be read"),
        ("two.npz", lambda path: np.savez(path, a=ROWS, b=ROWS), "2 arrays"),
        ("no.npz", lambda path: path.write_bytes(b"abc"), "cannot be read"),
        ("cut.fvecs", lambda path: path.write_bytes(np.array([3, 0], "<i4").tobytes()), "whole rows"),
        ("zero.fvecs", lambda path: path.write_bytes(b""), "cannot be read"),
        ("no.h5", lambda path: path.write_bytes(b"abc"), "cannot be read"),
        ("local.h5", lambda path: h5py.File(path, "w").create_group("a").file.close(), "global_descriptor"),
        ("no.parquet", lambda path: path.write_bytes(b"abc"), "cannot be read"),
    ],
)
def test_a_file_of_another_form_is_named_in_one_line(
    tmp_path: Path, name: str, write: Callable[[Path], object], message: str
) -> None:
    """Whatever the library says of a bad file, the message names the file and what is wrong."""
    write(tmp_path / name)
    with pytest.raises(LandmarkRetrievalError, match=message) as caught:
        read_descriptors(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_rows_of_two_lengths_are_refused(tmp_path: Path) -> None:
    """The first row of another length is named."""
    with (tmp_path / "x.fvecs").open("wb") as file:
        for width in (3, 3, 3, 3):
            np.array([width if file.tell() < 40 else 2, 0, 0, 0], "<i4").tofile(file)
    with pytest.raises(LandmarkRetrievalError, match="row 3 says 2 numbers"):
        read_descriptors(tmp_path / "x.fvecs")

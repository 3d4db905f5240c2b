from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from kedro.io import DataCatalog, DatasetError
from kedro.pipeline import node, pipeline
from kedro.runner import SequentialRunner

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.io import ArrayBundleDataset
from landmark_retrieval.io.array_bundle import LEFT
from landmark_retrieval.runtime.bundle import MAPPED_FROM_BYTES


@dataclass(frozen=True)
class Bundle:
    ids: Any
    matrix: Any
    note: Any = "text"
    sizes: Any = (1, 2)


@dataclass(frozen=True)
class OtherBundle:
    ids: Any
    weights: Any


@dataclass(frozen=True)
class CheckedBundle:
    matrix: Any

    def __post_init__(self) -> None:
        if not len(self.matrix):
            raise LandmarkRetrievalError("matrix: empty")


class Blocks:
    """What a producer of blocks looks like."""

    def __init__(self, array: np.ndarray, rows: int, announced: tuple[int, ...] | None = None) -> None:
        self.shape = announced or array.shape
        self.dtype = array.dtype
        self.blocks = [array[start : start + rows] for start in range(0, len(array), rows)]
        self.most = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        yield from self.blocks


def dataset(tmp_path: Path, bundle: str = "Bundle", name: str = "bundle") -> ArrayBundleDataset:
    return ArrayBundleDataset(filepath=str(tmp_path / name), bundle=f"{__name__}.{bundle}")


def example(rows: int = 5) -> Bundle:
    matrix = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
    return Bundle(np.array([f"image{row}" for row in range(rows)]), matrix)


def equal(left: Any, right: Any) -> bool:
    pairs = [(getattr(left, f.name), getattr(right, f.name)) for f in dataclasses.fields(left)]
    return all(
        (a.shape, a.dtype, a.tobytes()) == (b.shape, b.dtype, b.tobytes())  # NaN has to come back, too
        if isinstance(a, np.ndarray)
        else a == b and type(a) is type(b)
        for a, b in pairs
    )


def refusal(action: Any, *args: Any) -> str:
    with pytest.raises(DatasetError) as caught:
        action(*args)
    assert isinstance(caught.value, LandmarkRetrievalError)
    message = str(caught.value)
    assert "\n" not in message
    return message


ARRAYS = hnp.arrays(
    st.sampled_from(["<f4", "<f2", "<f8", "<i4", "<i8", "|u1", "|b1", "<U7"]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=6),
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(st.characters(codec="utf-8"))
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ARRAYS, ARRAYS, SCALARS, st.lists(SCALARS, max_size=3).map(tuple))
def test_round_trip(tmp_path: Path, ids: Any, matrix: Any, note: Any, sizes: Any) -> None:
    bundle = Bundle(ids, matrix, note, sizes)
    dataset(tmp_path).save(bundle)
    assert equal(dataset(tmp_path).load(), bundle)


def test_big_arrays_are_mapped_and_all_are_read_only(tmp_path: Path) -> None:
    rows = MAPPED_FROM_BYTES // 12 + 1
    bundle = example(rows)
    dataset(tmp_path).save(bundle)
    loaded = dataset(tmp_path).load()
    assert isinstance(loaded.matrix, np.memmap) and np.array_equal(loaded.matrix, bundle.matrix)
    small = dataset(tmp_path, name="small")
    small.save(example())
    assert not isinstance(small.load().matrix, np.memmap)
    for matrix in (loaded.matrix, small.load().matrix):
        with pytest.raises(ValueError, match="read-only"):
            matrix[0, 0] = 1


def test_text_of_python_objects_is_stored_without_pickle(tmp_path: Path) -> None:
    dataset(tmp_path).save(Bundle(np.array(["a", "längere"], dtype=object), np.zeros(2)))
    loaded = dataset(tmp_path).load()
    assert loaded.ids.dtype == "<U7" and loaded.ids.tolist() == ["a", "längere"]
    dataset(tmp_path).save(Bundle(np.array(["a", "bc"], dtype=np.dtypes.StringDType()), np.zeros(2)))
    assert dataset(tmp_path).load().ids.tolist() == ["a", "bc"]


@pytest.mark.parametrize("rows", [1, 2, 7, 100])
def test_blocks_are_streamed_into_one_array(tmp_path: Path, rows: int) -> None:
    array = np.random.default_rng(0).normal(size=(23, 4, 2)).astype(np.float16)
    dataset(tmp_path).save(Bundle(np.arange(23), Blocks(array, rows)))
    matrix = dataset(tmp_path).load().matrix
    assert matrix.dtype == np.float16 and np.array_equal(matrix, array)


def test_no_blocks_make_an_empty_array(tmp_path: Path) -> None:
    dataset(tmp_path).save(Bundle(np.arange(0), Blocks(np.empty((0, 8), np.float32), 5)))
    assert dataset(tmp_path).load().matrix.shape == (0, 8)


def test_the_projects_own_block_array(tmp_path: Path) -> None:
    descriptors = pytest.importorskip("landmark_retrieval.descriptors.matrix")
    array = np.random.default_rng(0).normal(size=(10, 4)).astype(np.float32)
    entry = ArrayBundleDataset(
        filepath=str(tmp_path / "d"), bundle="landmark_retrieval.descriptors.matrix.Descriptors"
    )
    ids = np.array([f"i{row}" for row in range(10)])
    entry.save(
        descriptors.Descriptors(ids, descriptors.BlockArray(array.shape, array.dtype, [array[:7], array[7:]]))
    )
    assert np.array_equal(entry.load().matrix, array)
    broken = descriptors.BlockArray(array.shape, array.dtype, [array[:7]])
    assert "7 rows" in refusal(entry.save, descriptors.Descriptors(ids, broken))
    assert np.array_equal(entry.load().matrix, array)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.array([{}], dtype=object), "Python objects"),
        (np.array(["a", None], dtype=object), "Python objects"),
        (["a list"], "list"),
        ({"a": 1}, "dict"),
        (Blocks(np.zeros((4, 2)), 2, announced=(5, 2)), "4 rows"),
        (Blocks(np.zeros((4, 2)), 2, announced=(4, 3)), "shape (2, 2)"),
    ],
)
def test_values_that_cannot_be_stored_are_named_and_the_old_artifact_stays(
    tmp_path: Path, value: Any, words: str
) -> None:
    dataset(tmp_path).save(example())
    message = refusal(dataset(tmp_path).save, Bundle(np.arange(2), value))
    assert "'matrix'" in message and words in message
    assert equal(dataset(tmp_path).load(), example())
    assert [entry.name for entry in tmp_path.iterdir()] == ["bundle"]


def test_a_crash_while_streaming_leaves_the_old_artifact(tmp_path: Path) -> None:
    class Crashing(Blocks):
        def __iter__(self) -> Iterator[np.ndarray]:
            yield self.blocks[0]
            raise KeyboardInterrupt

    dataset(tmp_path).save(example())
    with pytest.raises(KeyboardInterrupt):
        dataset(tmp_path).save(Bundle(np.arange(4), Crashing(np.zeros((4, 2)), 2)))
    assert equal(dataset(tmp_path).load(), example())


@pytest.mark.parametrize("act", ["load", "exists", "save"])
def test_a_kill_while_replacing_is_recovered_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    dataset(tmp_path).save(example())
    rename = Path.rename

    def kill_at_second(self: Path, target: Path) -> Path:
        if self.name.endswith(".tmp"):
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", kill_at_second)
        with pytest.raises(KeyboardInterrupt):
            dataset(tmp_path).save(example(9))
    assert not (tmp_path / "bundle").exists()
    again = dataset(tmp_path)
    if act == "save":
        again.save(example(7))
        assert equal(again.load(), example(7))
    else:
        assert again.exists() if act == "exists" else equal(again.load(), example())
        assert equal(again.load(), example())
    assert [entry.name for entry in tmp_path.iterdir()] == ["bundle"]


def test_two_runs_may_save_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between taking the old bundle away and putting the new one there, another run puts its own."""
    dataset(tmp_path).save(example())
    real, others = Path.rename, [example(7), example(8)]

    def rename(path: Path, target: Path) -> Path:
        if path.name.endswith(".tmp") and others:
            dataset(tmp_path).save(others.pop())
        return real(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    dataset(tmp_path).save(example(9))
    assert others == [] and equal(dataset(tmp_path).load(), example(9))
    assert [entry.name for entry in tmp_path.iterdir()] == ["bundle"]


def test_leftovers_of_killed_saves_are_removed_but_nothing_else(tmp_path: Path) -> None:
    left, other, busy = (f".bundle.{name}.tmp" for name in ("0" * 32, "other." + "0" * 32, "1" * 32))
    long_ago = time.time() - 2 * LEFT
    for name in (left, other, busy):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.npy").touch()
        os.utime(tmp_path / name / "x.npy", (long_ago, long_ago))
        os.utime(tmp_path / name, (long_ago, long_ago))
    (tmp_path / busy / "x.npy").write_bytes(b"of a run that goes on")
    dataset(tmp_path).save(example())
    assert {entry.name for entry in tmp_path.iterdir()} == {"bundle", other, busy}


def test_a_mapped_artifact_can_be_replaced_by_what_was_made_of_it(tmp_path: Path) -> None:
    rows = MAPPED_FROM_BYTES // 12 + 1
    dataset(tmp_path).save(example(rows))
    loaded = dataset(tmp_path).load()
    dataset(tmp_path).save(Bundle(loaded.ids, Blocks(loaded.matrix, 1000)))
    assert np.array_equal(dataset(tmp_path).load().matrix, loaded.matrix)


def test_equal_bundles_are_equal_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        dataset(tmp_path, name=name).save(example())
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()


def test_a_missing_artifact(tmp_path: Path) -> None:
    assert not dataset(tmp_path).exists()
    assert "run its pipeline first" in refusal(dataset(tmp_path).load)


@pytest.mark.parametrize("file", ["bundle.json", "matrix.npy", "ids.npy"])
@pytest.mark.parametrize("harm", ["truncate", "empty", "garbage", "remove", "swap"])
@pytest.mark.parametrize("rows", [5, MAPPED_FROM_BYTES // 12 + 1])
def test_a_damaged_file_is_named_with_the_remedy(tmp_path: Path, file: str, harm: str, rows: int) -> None:
    dataset(tmp_path).save(example(rows))
    path = tmp_path / "bundle" / file
    data = path.read_bytes()
    if harm == "truncate":
        path.write_bytes(data[: len(data) - 20])
    elif harm == "empty":
        path.write_bytes(b"")
    elif harm == "garbage":
        path.write_bytes(b"\x00garbage" * 100)
    elif harm == "remove":
        path.unlink()
    elif file.endswith(".npy"):
        np.save(path, np.zeros((2, 2), np.int8))
    else:
        path.write_text(json.dumps({"format": 99, "arrays": {}, "values": {}}))
    message = refusal(dataset(tmp_path).load)
    assert file in message and str(tmp_path / "bundle") in message
    assert "delete it and run its pipeline again" in message


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_flipped_byte_in_a_header_is_a_clear_message_or_harmless(
    tmp_path: Path, data: st.DataObject
) -> None:
    dataset(tmp_path).save(example())
    path = tmp_path / "bundle" / "matrix.npy"
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, 127))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    try:
        assert dataset(tmp_path).load().matrix.shape == (5, 3)
    except LandmarkRetrievalError as error:
        assert "matrix.npy" in str(error) and "\n" not in str(error)


def test_fields_of_another_version_are_named(tmp_path: Path) -> None:
    dataset(tmp_path).save(example())
    message = refusal(dataset(tmp_path, "OtherBundle").load)
    assert "ids, matrix, note, sizes" in message and "ids, weights" in message and "OtherBundle" in message


def test_what_the_class_refuses_is_passed_on(tmp_path: Path) -> None:
    entry = dataset(tmp_path, "CheckedBundle")
    entry.save(CheckedBundle(np.zeros(3)))
    np.save(tmp_path / "bundle" / "matrix.npy", np.zeros(0))
    facts = json.loads((tmp_path / "bundle" / "bundle.json").read_text())
    facts["arrays"]["matrix"]["shape"] = [0]
    (tmp_path / "bundle" / "bundle.json").write_text(json.dumps(facts))
    assert refusal(entry.load) == "matrix: empty"


def test_data_of_another_class_is_refused(tmp_path: Path) -> None:
    assert "expected" in refusal(dataset(tmp_path).save, OtherBundle(np.zeros(1), np.zeros(1)))


@pytest.mark.parametrize(
    "bundle", ["no_such_package.Thing", f"{__name__}.NoSuchClass", "json.loads", "Nothing"]
)
def test_a_wrong_class_in_the_catalog_is_named(tmp_path: Path, bundle: str) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "bundle.json").write_text(json.dumps({"format": 1, "arrays": {}, "values": {}}))
    assert bundle in refusal(ArrayBundleDataset(filepath=str(tmp_path / "b"), bundle=bundle).load)


def test_a_folder_of_something_else_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    dataset(tmp_path).save(example())  # an empty folder may be
    precious = tmp_path / "bundle" / "thesis.docx"
    precious.write_text("years of work")
    assert "move it away" in refusal(dataset(tmp_path).save, example())
    assert precious.read_text() == "years of work"
    (tmp_path / "file").write_text("a file")
    assert "move it away" in refusal(dataset(tmp_path, name="file").save, example())


def test_preview_lists_fields(tmp_path: Path) -> None:
    dataset(tmp_path).save(example())
    preview = dataset(tmp_path).preview()
    assert ["matrix", "<f4", "5 x 3", "0.00 MiB"] in preview["data"]
    assert {len(row) for row in preview["data"]} == {len(preview["columns"])}


def _make() -> Bundle:
    return example()


def _length(bundle: Bundle) -> dict[str, int]:
    return {"rows": len(bundle.matrix)}


def test_in_a_catalog_and_a_run(tmp_path: Path) -> None:
    catalog = DataCatalog.from_config(
        {
            "{variant}.bundle": {
                "type": "landmark_retrieval.io.ArrayBundleDataset",
                "filepath": str(tmp_path / "{variant}" / "bundle"),
                "bundle": f"{__name__}.Bundle",
                "metadata": {"kedro-viz": {"layer": "primary"}},
            }
        }
    )
    nodes = [node(_make, None, "gem.bundle"), node(_length, "gem.bundle", "length")]
    outputs = SequentialRunner().run(pipeline(nodes), catalog)
    assert outputs["length"].load() == {"rows": 5}
    assert "bundle" in str(catalog["gem.bundle"]) and catalog.exists("gem.bundle")


def test_a_local_url_is_a_folder(tmp_path: Path) -> None:
    entry = ArrayBundleDataset(filepath=f"file://{tmp_path}/bundle", bundle=f"{__name__}.Bundle")
    entry.save(_make())
    assert entry.exists() and (tmp_path / "bundle" / "bundle.json").is_file()
    np.testing.assert_array_equal(entry.load().matrix, _make().matrix)


def test_object_stores_are_refused_in_one_line() -> None:
    entry = ArrayBundleDataset(filepath="s3://bucket/bundle", bundle=f"{__name__}.Bundle")
    assert not entry.exists()
    for action in (entry.load, lambda: entry.save(_make())):
        with pytest.raises(DatasetError, match="local or mounted") as caught:
            action()
        assert str(caught.value).startswith("s3://bucket/bundle: ") and "\n" not in str(caught.value)
    assert not Path("s3:").exists()


@dataclass(frozen=True)
class Pair:
    left: OtherBundle
    right: OtherBundle
    note: Any


def test_a_bundle_may_hold_bundles(tmp_path: Path) -> None:
    stored = ArrayBundleDataset(filepath=str(tmp_path / "pair"), bundle=f"{__name__}.Pair")
    large = np.arange(MAPPED_FROM_BYTES // 4, dtype=np.float32)
    left = OtherBundle(np.array(["a", "b"]), large)
    stored.save(Pair(left, OtherBundle(("one", 2), np.zeros((0, 3))), "both"))
    loaded = stored.load()
    assert isinstance(loaded, Pair) and isinstance(loaded.left, OtherBundle)
    assert loaded.left.ids.tolist() == ["a", "b"] and loaded.note == "both"
    assert isinstance(loaded.left.weights, np.memmap) and np.array_equal(loaded.left.weights, large)
    assert loaded.right.ids == ("one", 2) and loaded.right.weights.shape == (0, 3)
    assert {row[0] for row in stored.preview()["data"]} >= {"left.ids", "right.weights", "note"}
    flat = ArrayBundleDataset(filepath=str(tmp_path / "pair"), bundle=f"{__name__}.OtherBundle")
    with pytest.raises(LandmarkRetrievalError, match=r"holds the fields left\.ids"):
        flat.load()

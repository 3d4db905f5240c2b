"""The records beside artifacts, on a toy pipeline: rows -> table -> vectors -> ranking -> score."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.io import DatasetError
from kedro.pipeline import Node, Pipeline
from kedro.runner import SequentialRunner

from landmark_retrieval.catalog import ChainCatalog
from landmark_retrieval.chain_hooks import ChainHooks, overridden_in_vain
from landmark_retrieval.commands.status import state_of
from landmark_retrieval.evaluation import Ranking
from landmark_retrieval.io import ArtifactError, chain
from landmark_retrieval.runtime.files import is_no_space
from landmark_retrieval.runtime.records import record_file


def make_table(photos: Any) -> pd.DataFrame:
    return photos.table[["image_id", "split", "landmark"]]


def make_vectors(table: pd.DataFrame, scale: float) -> dict[str, float]:
    return {image: scale * len(image) for image in table["image_id"]}


def make_ranking(vectors: dict[str, float], table: pd.DataFrame) -> Ranking:
    return Ranking(np.argsort([vectors[image] for image in table["image_id"]]).astype(np.int32)[None])


def make_score(ranking: Ranking, table: pd.DataFrame) -> dict[str, Any]:
    return {"first": str(table["image_id"].iloc[int(ranking.rows[0, 0])])}


def keep(table: pd.DataFrame, known: dict[str, Any]) -> dict[str, Any]:
    return {"ids": sorted({*known.get("ids", []), *table["image_id"]})}


NODES = {
    "features": [
        Node(make_table, "photos", "image_table", name="make_table"),
        Node(make_vectors, ["image_table", "params:scale"], "vectors", name="make_vectors"),
    ],
    "knn_graph": [Node(make_ranking, ["vectors", "image_table"], "ranking", name="make_ranking")],
    "evaluation": [Node(make_score, ["ranking", "image_table"], "score", name="make_score")],
    "collection": [Node(keep, ["image_table", "known"], "remembered", name="keep")],
}
STAGES = {name: Pipeline(nodes, tags=name) for name, nodes in NODES.items()}
FILES = {
    "image_table": "table.csv",
    "vectors": "vectors.json",
    "ranking": "ranking",
    "score": "score.json",
    "remembered": "known.json",
}


class Toy:
    """A project of the toy pipeline."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.photos(["a", "bbb", "cc"])

    def photos(self, ids: Sequence[str], landmark: str = "tower") -> None:
        """Replace the photos and their table."""
        folder = self.root / "photos"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for image in ids:
            (folder / f"{image}.jpg").write_bytes(image.encode())
        table = pd.DataFrame({"image_id": ids, "path": [f"{image}.jpg" for image in ids], "split": "index"})
        table.assign(landmark=landmark).to_csv(folder / "images.csv", index=False)

    def catalog(self, scale: float = 1.0) -> ChainCatalog:
        """Return the catalog of one run."""
        at, io = self.root, "landmark_retrieval.io"
        data = {
            "photos": {"type": f"{io}.ImageFolderDataset", "filepath": f"{at}/photos"},
            "image_table": {
                "type": f"{io}.CSVDataset",
                "filepath": f"{at}/table.csv",
                "save_args": {"index": False},
            },
            "vectors": {"type": f"{io}.JSONDataset", "filepath": f"{at}/vectors.json"},
            "ranking": {
                "type": f"{io}.ArrayBundleDataset",
                "filepath": f"{at}/ranking",
                "bundle": "landmark_retrieval.evaluation.Ranking",
            },
            "score": {"type": f"{io}.JSONDataset", "filepath": f"{at}/score.json"},
            "making": {"type": f"{io}.MakingDataset", "artifact": "score"},
            "known": {"type": f"{io}.OptionalJSONDataset", "filepath": f"{at}/known.json"},
            "remembered": {"type": f"{io}.OptionalJSONDataset", "filepath": f"{at}/known.json"},
        }
        catalog = ChainCatalog.from_config(data)
        catalog["params:scale"] = scale
        return catalog

    def run(self, *stages: str, scale: float = 1.0, **options: Any) -> ChainCatalog:
        """Run stages as `kedro run --pipelines` does."""
        catalog = self.catalog(scale)
        pipeline = sum((STAGES[name] for name in stages or STAGES), start=Pipeline([]))
        hooks = _create_hook_manager()
        hooks.register(ChainHooks())
        parameters = {"pipeline_names": stages or ("__default__",), **options}
        hooks.hook.before_pipeline_run(run_params=parameters, pipeline=pipeline, catalog=catalog)
        SequentialRunner().run(pipeline, catalog, hooks)
        hooks.hook.after_pipeline_run(
            run_params=parameters, run_result={}, pipeline=pipeline, catalog=catalog
        )
        return catalog

    def refuse(self, *stages: str) -> str:
        """Run stages, which must be refused; return why."""
        with pytest.raises(ArtifactError) as caught:
            self.run(*stages)
        return str(caught.value)

    def score(self) -> Any:
        """Return the score as it is stored."""
        return json.loads((self.root / "score.json").read_text())


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kedro knows the toy pipelines; nobody waits for other runs."""
    monkeypatch.setattr(chain, "RECENT", 0.0)
    for module in ("landmark_retrieval.chain_hooks", "kedro.framework.project"):
        monkeypatch.setattr(
            f"{module}.pipelines", {**STAGES, "__default__": sum(STAGES.values(), Pipeline([]))}
        )


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    """A project in which everything ran once."""
    toy = Toy(tmp_path)
    toy.run()
    return toy


def test_each_stage_runs_alone_on_what_is_stored(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    for stage in STAGES:
        toy.run(stage)
    assert toy.score() == {"first": "a"}
    for stage in STAGES:
        toy.run(stage)


def test_rows_in_another_order_are_not_joined_with_old_rows(toy: Toy) -> None:
    toy.photos(["cc", "a", "bbb"])
    toy.run("features")
    before = toy.score()
    message = toy.refuse("evaluation")
    assert "ranking: was made of another image_table than" in message
    assert str(toy.root / "table.csv") in message
    assert "`kedro run --pipelines knn_graph,evaluation`" in message
    assert toy.score() == before
    toy.run("knn_graph", "evaluation")
    assert toy.score() == {"first": "a"}


@pytest.mark.parametrize("change", [{"ids": ["a", "bbb", "dd"]}, {"ids": ["a", "bbb"]}])
def test_other_photos_need_all_that_was_made_of_them(toy: Toy, change: dict[str, Any]) -> None:
    toy.photos(**change)
    message = toy.refuse("evaluation")
    assert "image_table: was made of other photos or labels than there are now in" in message
    assert "`kedro run --pipelines features,knn_graph,evaluation`" in message
    toy.run("features")
    assert "`kedro run --pipelines knn_graph,evaluation`" in toy.refuse("evaluation")
    assert "knn_graph" in toy.refuse("features", "evaluation")  # found while it runs, or at its end


def test_corrected_labels_are_not_scored_as_they_were(toy: Toy) -> None:
    toy.photos(["a", "bbb", "cc"], landmark="bridge")
    assert "image_table: was made of other photos or labels" in toy.refuse("evaluation")


def test_a_table_cut_by_hand_is_named(toy: Toy) -> None:
    file = toy.root / "table.csv"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    for stage in ("knn_graph", "evaluation", "collection"):
        message = toy.refuse(stage)
        assert message.startswith(f"image_table is damaged ({file}: not as stored)")
        assert "kedro run --pipelines features" in message
    toy.run("features")  # makes it again; all that was made of it fits again
    toy.run("evaluation")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def zero(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def empty(file: Path) -> None:
    file.write_bytes(b"")


def swap(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content.replace(b"1", b"2").replace(b"a", b"b"))


@pytest.mark.parametrize("damage", [cut, zero, empty, swap, Path.unlink])
@pytest.mark.parametrize("file", ["table.csv", "vectors.json", "ranking/rows.npy", "ranking/bundle.json"])
def test_damage_is_named_before_work_or_mended_by_it(
    toy: Toy, file: str, damage: Callable[[Path], None]
) -> None:
    before = toy.score()
    damage(toy.root / file)
    makers = {"table.csv": "features", "vectors.json": "features"}
    maker = makers.get(file, "knn_graph")
    if file != "vectors.json":
        message = toy.refuse("evaluation")
        assert file.split("/")[0] in message
        assert f"--pipelines {maker},evaluation" in message
        assert toy.score() == before
    toy.run(maker)
    toy.run("evaluation")
    toy.run()
    assert toy.score() == before


def test_all_damage_is_named_at_once(toy: Toy) -> None:
    files = [toy.root / "table.csv", toy.root / "ranking" / "rows.npy"]
    for file in files:
        zero(file)
    faults = toy.catalog().chain.faults(["ranking", "image_table"])  # whichever is looked at first
    assert {fault.artifact for fault in faults} == {"image_table", "ranking"}
    message = toy.refuse("evaluation")
    assert all(str(file) in message for file in files)
    assert "`kedro run --pipelines features,knn_graph,evaluation`" in message


@pytest.mark.parametrize("with_record", [False, True])
def test_an_older_artifact_is_not_taken_for_a_newer_one(toy: Toy, tmp_path: Path, with_record: bool) -> None:
    names = ["ranking", record_file(toy.root / "ranking").name]
    for name in names:
        source = toy.root / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / f"old{name}")
    toy.photos(["cc", "bbb", "a", "dddd"])
    toy.run()
    for name in names[: 2 if with_record else 1]:
        target = toy.root / name
        if target.is_dir():
            shutil.rmtree(target)
        (shutil.move)(tmp_path / f"old{name}", target)
    assert "ranking" in toy.refuse("evaluation")
    toy.run()
    assert toy.score() == {"first": "a"}


def test_equal_content_made_again_leaves_the_rest_valid(toy: Toy) -> None:
    toy.run("features")
    toy.run("evaluation")
    (toy.root / "table.csv").touch()
    shutil.copytree(toy.root / "ranking", toy.root / "copy")
    shutil.rmtree(toy.root / "ranking")
    (toy.root / "copy").rename(toy.root / "ranking")
    toy.run("evaluation")


def test_an_artifact_without_a_record_is_refused(toy: Toy) -> None:
    record_file(toy.root / "ranking").unlink()
    assert "nothing says what" in toy.refuse("evaluation")
    record_file(toy.root / "vectors.json").write_text("{")
    assert "vectors" in toy.refuse("knn_graph")


def test_rows_are_compared_where_what_lies_between_is_gone(toy: Toy) -> None:
    (toy.root / "vectors.json").unlink()
    toy.run("evaluation")  # vectors may be deleted to free space
    record_file(toy.root / "vectors.json").unlink()
    toy.run("evaluation")
    toy.photos(["cc", "a", "bbb"])
    (toy.root / "table.csv").unlink()
    toy.run("features")
    assert "ranking" in toy.refuse("evaluation")


def test_photos_that_are_away_stop_nothing(toy: Toy) -> None:
    (toy.root / "photos" / "cc.jpg").rename(toy.root / "cc.jpg")
    toy.run("evaluation")
    (toy.root / "photos").rename(toy.root / "elsewhere")
    toy.run("evaluation")


def test_a_photo_replaced_under_its_name_is_noticed(toy: Toy) -> None:
    (toy.root / "photos" / "cc.jpg").write_bytes(b"another photo")
    assert "image_table" in toy.refuse("evaluation")


def test_what_a_run_remembers_is_no_part_of_the_chain(toy: Toy) -> None:
    toy.run()
    toy.run("collection")
    assert json.loads((toy.root / "known.json").read_text())["ids"] == ["a", "bbb", "cc"]


def test_only_missing_outputs_makes_what_is_stale(toy: Toy) -> None:
    toy.photos(["cc", "a", "bbb"])
    toy.run("features")
    catalog = toy.catalog()
    catalog.only_fit_exist = True
    assert not catalog.exists("ranking")
    assert catalog.exists("vectors")


def test_making_tells_what_was_used_and_not_what_is_asked(toy: Toy) -> None:
    toy.run("knn_graph", scale=7.0)
    catalog = toy.run("evaluation", scale=5.0)
    making = catalog.load("making")
    assert making.parameters == {"scale": 1.0}
    assert set(making.seconds) == {"make_table", "make_vectors", "make_ranking", "make_score"}
    told = list(overridden_in_vain(STAGES["evaluation"], catalog, {"scale": 5.0}, ["ranking", "image_table"]))
    assert told == ["scale=5.0 (what is read was made with 1.0)"]
    assert not list(overridden_in_vain(STAGES["features"], catalog, {"scale": 5.0}, []))


def test_status_says_what_is_up_to_date_stale_missing_and_damaged(toy: Toy) -> None:
    assert set(state_of(toy.catalog()).values()) == {None}
    toy.photos(["cc", "a", "bbb"])
    toy.run("features")
    zero(toy.root / "vectors.json")
    (toy.root / "score.json").unlink()
    states = {name: fault.kind if fault else "fit" for name, fault in state_of(toy.catalog()).items()}
    assert states == {
        "image_table": "fit",
        "vectors": "damaged",
        "ranking": "stale",
        "score": "missing",
        "remembered": "fit",
    }


def test_loading_by_hand_checks_too(toy: Toy) -> None:
    zero(toy.root / "score.json")
    with pytest.raises(ArtifactError, match="score is damaged"):
        toy.catalog().load("score")
    catalog = toy.catalog()
    catalog.save("score", {"first": "by hand"})
    assert toy.catalog().load("score") == {"first": "by hand"}


def test_a_damaged_memory_of_the_run_before_is_moved_aside(
    toy: Toy, caplog: pytest.LogCaptureFixture
) -> None:
    cut(toy.root / "known.json")
    toy.run("collection")
    assert "known.json: not as stored; it is kept as known.json.damaged and begun anew" in caplog.text
    assert json.loads((toy.root / "known.json").read_text())["ids"] == ["a", "bbb", "cc"]
    assert (toy.root / "known.json.damaged").exists()


def test_what_is_made_too_late_for_its_readers_ends_the_run(toy: Toy) -> None:
    toy.photos(["cc", "a", "bbb", "dd"])
    message = toy.refuse("features", "evaluation")
    assert "`kedro run --pipelines features,knn_graph,evaluation`" in message


def test_a_full_disk_leaves_the_old_file_and_nothing_else(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = {file: file.read_bytes() for file in toy.root.rglob("*") if file.is_file()}
    catalog = toy.catalog()
    monkeypatch.setattr(os, "fsync", full)
    for name, data in {
        "image_table": pd.DataFrame({"image_id": ["x"]}),
        "vectors": {"x": 1.0},
        "ranking": Ranking(np.zeros((1, 2), np.int32)),
        "known": {"ids": []},
    }.items():
        with pytest.raises(DatasetError) as caught:
            catalog.save(name, data)
        assert is_no_space(caught.value)
        assert "no space is left" in str(caught.value.__cause__ or caught.value)
    assert {file: file.read_bytes() for file in toy.root.rglob("*") if file.is_file()} == before


def test_two_runs_at_once_leave_whole_artifacts(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "RECENT", 3.0)
    with ThreadPoolExecutor() as threads:
        list(threads.map(lambda _: toy.run(), range(4)))
    assert set(state_of(toy.catalog()).values()) == {None}
    assert not [file for file in toy.root.rglob("*") if file.name.endswith((".tmp", ".old"))]

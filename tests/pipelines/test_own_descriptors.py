"""Whole runs from descriptors that were made elsewhere, without a single photo."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from kedro_project import Project
from landmark_retrieval.cli import cli
from landmark_retrieval.collection import relevant_index_rows
from landmark_retrieval.descriptors import normalize_rows
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.evaluation import average_precision
from landmark_retrieval.retrieval import DescriptorSearch, read_run_index
from variant_names import VARIANTS


@pytest.fixture
def own(project: Project) -> tuple[Project, np.ndarray]:
    """A project without photos, and random descriptors in the order of its table: 5 landmarks and others."""
    shutil.rmtree(project.root / "photos" / "images")
    splits = ["train", "index", "query", "train", "index", "train", "index", "train", "train"]
    table = pd.DataFrame(
        [
            (f"{split}_{landmark}_{number}", split, landmark)
            for landmark in "abcde"
            for number, split in enumerate(splits)
        ]
        + [(f"other_{number}", "index", "") for number in range(5)],
        columns=["image_id", "split", "landmark"],
    )
    table.to_csv(project.root / "photos" / "images.csv", index=False)
    random = np.random.default_rng(3)
    centres = random.normal(size=(6, 6))[table["landmark"].map("abcde".find)]
    rows = (centres + 0.8 * random.normal(size=centres.shape)).astype(np.float32)
    np.save(project.root / "mine.npy", rows)
    return project, rows


def test_a_run_from_own_descriptors(own: tuple[Project, np.ndarray]) -> None:
    """All stages run; the first row is what NumPy gives; rivals stand beside, each with an MLflow run."""
    project, rows = own
    project.succeed("--params", "descriptors=mine.npy")
    (folder,) = (project.root / "data" / "04_feature").iterdir()
    assert folder.name.startswith("tiny-mine-")
    params = {"descriptors": "mine.npy"}
    catalog = project.catalog(params)
    with project.entered():
        images, stored = catalog.load("image_table"), catalog.load("blend.descriptors")
        rivals = catalog.load("rivals").set_index("variant")
    given = pd.read_csv(project.root / "photos" / "images.csv", dtype=str)["image_id"]
    expected = normalize_rows(rows)[pd.Index(given).get_indexer(pd.Index(images["image_id"]))]
    np.testing.assert_allclose(stored.matrix, expected, atol=1e-6)
    queries = int((images["split"] == "query").sum())
    index = expected[queries : queries + int((images["split"] == "index").sum())]
    ranking = np.argsort(-(expected[:queries] @ index.T), axis=1).astype(np.int32)
    truth = np.nanmean(average_precision(ranking, relevant_index_rows(images)))
    table = project.table().set_index("variant")
    assert table.loc["blend", "mAP_at_100"] == pytest.approx(truth)
    assert rivals.loc["blend", "mAP_at_100"] == pytest.approx(truth)
    assert {"diffusion", "k-reciprocal", "alpha QE", "blend_qe_sv_egt"} <= set(rivals.index)
    assert {"diffusion", "blend", "blend_qe_sv_egt"} <= {run.info.run_name for run in project.mlflow_runs()}
    _search(project, rows)
    _certify(project)
    project.succeed("--pipelines", "egt_sweep,qe_variants", "--params", "descriptors=mine.npy")
    with project.entered():
        assert set(catalog.load("chosen_options")) == {"egt", "label_bridge"}
        held_out, sweep = catalog.load("held_out.image_table"), catalog.load("egt_sweep")
        kinds = catalog.load("qe_variants")["selection"].dropna()
    assert set(held_out["image_id"]) <= set(images.loc[images["split"] == "train", "image_id"])
    assert sweep["mAP_at_100"].between(0, 1).all()
    assert set(kinds) == {"nearest"}  # nothing was verified


def _search(project: Project, rows: np.ndarray) -> None:
    """Queries find what the run found, by their id and by their row of the file; bad rows are refused."""
    catalog = project.catalog({"descriptors": "mine.npy"})
    with project.entered():
        search = DescriptorSearch(read_run_index(catalog.load))
        images = search.index.images
        given = pd.read_csv("photos/images.csv", dtype=str)["image_id"].tolist()
        for variant in VARIANTS:
            ranking = catalog.load(f"{variant}.ranking").rows
            for query, image_id in enumerate(images["image_id"].iloc[: len(ranking)]):
                expected = images["image_id"].to_numpy()[len(ranking) + ranking[query][ranking[query] >= 0]]
                known = search.find_known(image_id, 100, variant)
                found = search.find(rows[given.index(image_id)], 100, variant)
                for one in (known, found):
                    assert [result.image_id for result in one.results] == expected.tolist()
        of_index = images.loc[images["split"] == "index", "image_id"].iloc[0]
        assert {result.landmark for result in search.find_known("train_a_0").results} & {"a"}
        assert of_index not in {result.image_id for result in search.find_known(of_index, 100).results}
        for row, message in ((np.ones(5), "5 numbers does not fit an index of 6"), (np.zeros(6), "is zero")):
            with pytest.raises(LandmarkRetrievalError, match=message):
                search.find(row)
        np.save("asked.npy", rows[:2])
        run = ["--env", "test", "--params", "descriptors=mine.npy"]
        result = CliRunner().invoke(cli, ["search", "--descriptor", "asked.npy", "--id", given[0], *run])
        assert result.exit_code == 0, result.output
        assert [line.split(":")[0] for line in result.output.splitlines() if " results in " in line] == [
            given[0],
            "row 0",
            "row 1",
        ]
        refused = CliRunner().invoke(cli, ["search", "--id", "nobody", *run])
        assert "'nobody' is no image of the table" in refused.output
        assert CliRunner().invoke(cli, ["search", *run]).exit_code == 2


def _certify(project: Project) -> None:
    """A certificate of the run agrees with what is stored until something stored is changed."""
    options = ["--env", "test", "--params", "descriptors=mine.npy"]
    with project.entered():
        assert CliRunner().invoke(cli, ["certify", *options, "--output", "c.json"]).exit_code == 0
        same = CliRunner().invoke(cli, ["certify", "--check", "c.json", "--stored"])
        assert same.exit_code == 0, same.output
        (ranking,) = Path("data/07_model_output").glob("*/blend_qe_sv_egt/ranking/rows.npy")
        rows = np.load(ranking)
        np.save(ranking, rows[:, ::-1])
        other = CliRunner().invoke(cli, ["certify", "--check", "c.json", "--stored"])
    assert other.exit_code == 1
    assert "the runs part at 'blend_qe_sv_egt.ranking', which differs; 0 later" in other.output
    parents = [run for run in project.mlflow_runs() if "mlflow.parentRunId" not in run.data.tags]
    assert "c.json" in project.artifacts(parents[-1])


def test_local_features_of_ones_own_verify_who_expands(own: tuple[Project, np.ndarray]) -> None:
    """Images of one landmark show the same points from elsewhere; only these pairs have inliers."""
    project, _ = own
    table = pd.read_csv(project.root / "photos" / "images.csv", dtype=str, keep_default_na=False)
    random = np.random.default_rng(8)
    scenes = {mark: (random.uniform(0, 400, (60, 2)), random.normal(size=(60, 16))) for mark in "abcde"}
    with h5py.File(project.root / "local.h5", "w") as file:
        for image_id, mark in zip(table["image_id"], table["landmark"], strict=True):
            points, rows = scenes.get(mark) or (random.uniform(0, 400, (60, 2)), random.normal(size=(60, 16)))
            group = file.create_group(f"db/{image_id}.jpg")
            group["keypoints"] = points * random.uniform(0.7, 1.3) + random.uniform(0, 50, 2)
            group["descriptors"] = (rows + 0.1 * random.normal(size=rows.shape)).T
            group["scores"] = random.uniform(size=60)
            group["image_size"] = np.array([600, 600])
    params = "descriptors.files=mine.npy,descriptors.local_features=local.h5"
    project.succeed("--params", params)
    catalog = project.catalog({"descriptors": {"files": "mine.npy", "local_features": "local.h5"}})
    with project.entered():
        images, pairs = catalog.load("image_table"), catalog.load("verified_pairs")
    landmark = images["landmark"].fillna("").to_numpy()
    same = (landmark[pairs["row_a"]] == landmark[pairs["row_b"]]) & (landmark[pairs["row_a"]] != "")
    assert same.any() and (~same).any()
    assert pairs.loc[same, "inliers"].min() >= 40
    assert pairs.loc[~same, "inliers"].max() < 15
    scores = project.table().set_index("variant")["mAP_at_100"]
    assert scores["blend"] < 1
    assert (scores[["blend_qe_sv", "blend_qe_sv_egt"]] == 1).all()
    project.succeed("--pipelines", "egt_sweep,qe_variants", "--params", params)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("gone.npy", r"there is no file 'gone\.npy'"),
        ("short.npy", r"short\.npy: 49 rows, but the image table has 50 images.*one row fewer"),
    ],
)
def test_files_that_do_not_fit_end_a_run_in_one_line(
    own: tuple[Project, np.ndarray], option: str, message: str
) -> None:
    """With the file and the probable reason."""
    project, rows = own
    np.save(project.root / "short.npy", rows[1:])
    assert re.search(message, project.refuse("--params", f"descriptors={option}"))

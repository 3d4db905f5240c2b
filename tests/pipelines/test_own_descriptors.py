"""Whole runs from descriptors that were made elsewhere, without a single photo."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from kedro_project import Project
from landmark_retrieval.cli import cli
from landmark_retrieval.collection import relevant_index_rows
from landmark_retrieval.descriptors import normalize_rows
from landmark_retrieval.evaluation import average_precision


@pytest.fixture
def own(project: Project) -> tuple[Project, np.ndarray]:
    """A project without photos, and random descriptors in the order of its table."""
    shutil.rmtree(project.root / "photos" / "images")
    ids = pd.read_csv(project.root / "photos" / "images.csv", dtype=str)["image_id"]
    rows = np.random.default_rng(3).normal(size=(len(ids), 6)).astype(np.float32)
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
    _certify(project)


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


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("gone.npy", r"gone\.npy: there is no such file"),
        ("short.npy", r"short\.npy: 13 rows, but the image table has 14 images.*one row fewer"),
    ],
)
def test_files_that_do_not_fit_end_a_run_in_one_line(
    own: tuple[Project, np.ndarray], option: str, message: str
) -> None:
    """With the file and the probable reason."""
    project, rows = own
    np.save(project.root / "short.npy", rows[1:])
    assert re.search(message, project.refuse("--params", f"descriptors={option}"))

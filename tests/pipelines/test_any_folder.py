"""Whole runs on folders of photos that nobody labelled."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from kedro_project import Project
from landmark_retrieval.collection.naming import data_set_name
from variant_names import VARIANTS


def flat_folder(project: Project, count: int) -> Path:
    """A flat folder with some of the photos of the project."""
    folder = project.root / "mine"
    folder.mkdir()
    for photo in sorted((project.root / "photos" / "images").iterdir())[-count:]:
        shutil.copy(photo, folder)
    return folder


def output(project: Project, folder: Path, layer: str) -> Path:
    return project.root / "data" / layer / data_set_name(None, str(folder))


@pytest.mark.parametrize("count", [1, 3])
def test_a_few_photos_without_labels(project: Project, count: int) -> None:
    folder = flat_folder(project, count)
    result = project.run("--params", f"image_root={folder}")
    assert result.exit_code == 0, result.output
    names = sorted(photo.stem for photo in folder.iterdir())
    for variant in VARIANTS:
        file = output(project, folder, "07_model_output") / variant / "submission.csv"
        found = pd.read_csv(file, dtype=str, keep_default_na=False).set_index("id")["images"].to_dict()
        assert sorted(found) == names
        for name, others in found.items():
            assert sorted(others.split()) == [other for other in names if other != name], variant
    reports = project.root / "data" / "08_reporting"
    assert "nothing is measured" in (reports / "ablation.txt").read_text()
    page = (reports / "report.html").read_text()
    assert "each asked against the others" in page or count == 1
    assert 'alt="wrong: ' not in page and 'alt="right: ' not in page
    assert page.count('alt="not known: ') >= (count > 1)
    audit = pd.read_csv(output(project, folder, "02_intermediate") / "audit.csv", dtype=str)
    assert audit["what"].tolist() == ["used"] * count


def test_labels_without_queries_are_measured_one_by_one(project: Project) -> None:
    project.succeed("--params", "protocol=leave_one_out", "--to-nodes", "evaluation.write_ablation")
    table = project.load("image_table")
    assert set(table["split"]) == {"index", "train"}
    metrics = project.load("blend.metrics")
    labels = table[table["split"] == "index"]["landmark_id"].dropna()
    assert metrics["queries"] == int((labels.map(labels.value_counts()) > 1).sum())
    ranking = project.load("blend_qe_sv_egt.ranking").rows
    assert not any(row in found for row, found in enumerate(ranking.tolist()))

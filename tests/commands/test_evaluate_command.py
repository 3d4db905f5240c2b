from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from kedro_project import Project
from landmark_retrieval.commands.evaluate import evaluate

SOLUTION = """id,images,Usage
q1,a b,Public
q2,c,Private
q3,None,Ignored
q4,d e f,Private
"""
PREDICTIONS = """id,images
q1,a x b
q2,x x c
q3,a
"""
# By hand. q1: hits at ranks 1 and 3 of 2 relevant: (1/1 + 2/3) / 2. q2: the repetition keeps its rank, hit at
# 3 of 1: 1/3. q3 is ignored. q4 has no predictions: 0, position 101.
AP = [(1 + 2 / 3) / 2, 1 / 3, 0.0]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "solution.csv").write_text(SOLUTION)
    (tmp_path / "predictions.csv").write_text(PREDICTIONS)
    return tmp_path


def run(folder: Path, *options: str) -> Result:
    arguments = [str(folder / "predictions.csv"), str(folder / "solution.csv"), *options]
    return CliRunner().invoke(evaluate, arguments)


def test_metrics_by_hand(files: Path) -> None:
    result = run(files, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.output)
    assert found["all"]["mAP_at_100"]["mean"] == pytest.approx(np.mean(AP))
    assert found["public"]["mAP_at_100"]["mean"] == pytest.approx(AP[0])
    assert found["private"]["mAP_at_100"]["mean"] == pytest.approx(np.mean(AP[1:]))
    assert found["all"]["mean_position"]["mean"] == pytest.approx((1 + 3 + 101) / 3)
    assert found["all"]["P_at_10"]["mean"] == pytest.approx((0.2 + 0.1 + 0) / 3)
    assert found["all"]["R_at_1"]["mean"] == pytest.approx(1 / 3)
    assert [found[part]["queries"] for part in ("all", "public", "private")] == [3, 1, 2]
    interval = found["all"]["mAP_at_100"]
    assert 0 <= interval["low"] <= interval["mean"] <= interval["high"] <= max(AP) + 1e-12


def test_table_for_people(files: Path) -> None:
    result = run(files)
    lines = result.output.splitlines()
    assert lines[0].split() == ["all", "public", "private"]
    assert lines[1].split() == ["queries", "3", "1", "2"]
    assert lines[2].startswith("mAP@100        0.3889 [")
    assert "0.8333 [0.8333, 0.8333]" in lines[2]
    assert [line.split("  ")[0] for line in lines[3:]] == ["P@10", "R@1", "R@10", "mean position"]


def test_gain_over_another_submission(files: Path) -> None:
    (files / "other.csv").write_text("id,images\nq1,a b\nq2,c\nq4,d e f\n")
    result = run(files, "--compare", str(files / "other.csv"), "--json")
    assert json.loads(result.output)["gain"]["all"]["mean"] == pytest.approx(np.mean(AP) - 1)
    text = run(files, "--compare", str(files / "other.csv")).output
    assert f"gain over {files / 'other.csv'}, all: mAP@100 -0.6111 [" in text


def test_the_same_seed_draws_the_same(files: Path) -> None:
    assert run(files, "--seed", "3").output == run(files, "--seed", "3").output


def test_a_solution_without_usage(files: Path) -> None:
    (files / "solution.csv").write_text("id,images\nq1,a b\nq2,c\nq3,\n")
    found = json.loads(run(files, "--json").output)
    assert list(found) == ["all"]
    assert found["all"]["queries"] == 2


def test_an_image_table_as_solution_gives_the_metrics_of_the_run(finished_project: Project) -> None:
    data = finished_project.root / "data"
    submission = data / "07_model_output" / "tiny" / "blend" / "submission.csv"
    stored = finished_project.load("blend.metrics")
    prepared = data / "02_intermediate" / "tiny" / "image_table.csv"
    for table in (finished_project.root / "photos" / "images.csv", prepared):
        result = CliRunner().invoke(evaluate, [str(submission), str(table), "--json"])
        assert result.exit_code == 0, result.output
        found = json.loads(result.stdout)
        for part, suffix in (("all", ""), ("public", "_public"), ("private", "_private")):
            assert found[part]["mAP_at_100"]["mean"] == pytest.approx(stored[f"mAP_at_100{suffix}"])
        for metric in ("P_at_10", "R_at_1", "R_at_10", "mean_position"):
            assert found["all"][metric]["mean"] == pytest.approx(stored[metric])
        assert found["all"]["queries"] == stored["queries"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image_id,path,landmark\nq1,q1.jpg,a\n", "column split is missing"),
        ("image_id,path,split,landmark_id\nq1,q1.jpg,quer,1\n", "line 2: split 'quer'"),
        ("image_id,path,split,landmark_id\nq1,q1.jpg,query,1\n", "no image has split 'index'"),
    ],
)
def test_image_tables_that_are_no_solution(files: Path, text: str, message: str) -> None:
    (files / "solution.csv").write_text(text)
    result = run(files)
    assert result.exit_code == 1
    assert f"{files / 'solution.csv'}" in result.output and message in result.output


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("predictions.csv", None, "no such file"),
        ("solution.csv", None, "no such file"),
        ("predictions.csv", "id,image\nq1,a\n", "column images is missing; expected id, images"),
        ("solution.csv", "query,images\nq1,a\n", "column id is missing"),
        ("predictions.csv", "id,images\nq9,a\n", "query 'q9' is not in the solution"),
        ("predictions.csv", "id,images\nq1,a\nq1,b\n", "query 'q1' is given twice"),
        ("solution.csv", "id,images,Usage\nq1,a,Secret\nq2,c,Public\nq3,,Public\n", "Usage 'Secret'"),
        ("solution.csv", "id,images,Usage\nq1,a,Ignored\nq2,,Public\nq3,,Public\n", "nothing can be scored"),
        ("predictions.csv", "", "not a table"),
    ],
)
def test_what_is_wrong_is_named(files: Path, file: str, text: str | None, message: str) -> None:
    (files / file).unlink() if text is None else (files / file).write_text(text)
    result = run(files)
    assert result.exit_code == 1
    assert message in result.output
    assert len(result.output.strip().splitlines()) == 1
    assert isinstance(result.exception, SystemExit)

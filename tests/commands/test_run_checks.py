"""What would stop a run later stops it before any photo is read, all faults at once."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest

from kedro_project import Project


@pytest.fixture(autouse=True)
def no_photo_is_read() -> object:
    with mock.patch(
        "landmark_retrieval.cli.check_photos", side_effect=AssertionError("photos are read")
    ) as patch:
        yield patch


def test_all_faults_are_named_at_once(bare_project: Project, tmp_path: Path) -> None:
    project = bare_project.copy(tmp_path / "project")
    reports = project.root / "data" / "08_reporting"
    reports.parent.mkdir(exist_ok=True)
    reports.write_text("a file in the place of the folder")
    message = project.refuse(
        "--params",
        "verification.min_inliers=-1,gem.scales=[0.0001],label_bridge.min_similarity=nan,verification.seed=-1,"
        "blend.weights=[1],dir.scales=[nan],knnn.k=3,gem.max_sid=3,dir.trained=true,dir.trained_file=none.st,"
        "variants=[blnd]",
    )
    for part in (
        "Parameter 'verification': option 'min_inliers' should be greater than or equal to 4, got -1",
        "option 'seed' should be greater than or equal to 0, got -1",
        "Parameter 'gem': option 'scales.0' should be greater than or equal to 0.05",
        "unknown option 'max_sid': did you mean 'max_side'?",
        "Parameter 'label_bridge': option 'min_similarity' should be a number, .inf or -.inf",
        "Parameter 'dir': option 'scales.0' should be a finite number",
        "unknown parameter 'knnn': did you mean 'knn'?",
        "unknown variant 'blnd'",
        "Parameter 'blend': option 'weights' has 1 numbers for 2 descriptors (gem, dir); give one each, such",
        f"nothing can be written in {reports}",
    ):
        assert part in message, part


def test_files_that_are_read_are_looked_for(bare_project: Project) -> None:
    given = "dir.trained=true,dir.trained_file=none.safetensors"
    expected = "Parameter 'dir': option 'trained_file': there is no file 'none.safetensors'; make it with"
    assert bare_project.refuse("--params", given).startswith(expected)
    weights = "gem.backbone.weights=file,gem.backbone.weights_file=none.pth"
    expected = "Parameter 'gem': option 'backbone.weights_file': there is no file 'none.pth'"
    assert bare_project.refuse("--params", weights) == expected
    own = bare_project.refuse("--params", "descriptors.files=[none.npy;other.npy],descriptors.ids=ids.txt")
    assert own.count("there is no file") == 3
    assert "option 'files.1': there is no file 'other.npy'" in own


def test_files_of_other_pipelines_are_not_asked_for(bare_project: Project) -> None:
    given = "dir.trained=true,dir.trained_file=none.safetensors"
    assert "the artifact 'blend.descriptors' is missing" in bare_project.refuse(
        "--pipelines", "evaluation", "--params", given
    )


def test_weights_for_each_file_of_descriptors(bare_project: Project, tmp_path: Path) -> None:
    for name in ("one.npy", "two.npy", "three.npy"):
        (tmp_path / name).write_bytes(b"")
    files = ";".join(str(tmp_path / name) for name in ("one.npy", "two.npy", "three.npy"))
    message = bare_project.refuse("--params", f"descriptors.files=[{files}],blend.weights=[1,1]")
    assert "has 2 numbers for 3 descriptors (one.npy, two.npy, three.npy)" in message


def test_one_seed_for_all(bare_project: Project) -> None:
    loaded = bare_project.catalog({"seed": 5}).load("parameters")
    seeds = {name: group.seed for name, group in loaded.items() if hasattr(group, "seed")}
    assert {"data_set", "verification", "intervals", "groups", "training"} <= set(seeds)
    assert {seeds[name] for name in ("data_set", "verification", "intervals", "groups", "training")} == {5}
    assert bare_project.catalog().load("parameters")["verification"].seed == 0
    assert "option 'seed' should be greater than or equal to 0, got -1" in bare_project.refuse(
        "--params", "seed=-1"
    )

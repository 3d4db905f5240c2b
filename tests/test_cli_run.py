from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from kedro.framework.cli.utils import find_run_command
from PIL import Image

from kedro_project import DESCRIPTOR, PARAMETERS, Project
from landmark_retrieval.cli import cli
from landmark_retrieval.collection import SplitRows
from landmark_retrieval.collection.naming import data_set_name
from variant_names import VARIANTS

Edit = Callable[[Project, Callable[[pd.DataFrame], pd.DataFrame]], None]
BAD_IMAGES = {
    # name: split, landmark, part of the reason that is reported
    "missing": ("index", "4", "file not found"),
    "truncated": ("query", "3", "truncated"),
    "text": ("train", "3", "no picture of a known kind"),
    "tiny": ("index", "3", "1x1"),
}


def rows_of(*images: tuple[str, str, str]) -> pd.DataFrame:
    """Return rows of an image table: (image_id, split, landmark_id)."""
    rows = pd.DataFrame(images, columns=["image_id", "split", "landmark_id"])
    rows.insert(1, "path", "images/" + rows["image_id"] + ".jpg")
    return rows


@pytest.fixture(scope="module")
def bad_images(bare_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A finished run on photos of which four cannot be read and one is a strip."""
    project = bare_project.copy(tmp_path_factory.mktemp("bad") / "project")
    photos = project.root / "photos"
    table = pd.read_csv(photos / "images.csv", dtype=str, keep_default_na=False)
    added = [(name, split, landmark) for name, (split, landmark, _) in BAD_IMAGES.items()]
    table = pd.concat([rows_of(*added, ("strip", "index", "")), table]).fillna("")
    table.to_csv(photos / "images.csv", index=False)
    images = photos / "images"
    whole = (images / "piazza_san_marco_00.jpg").read_bytes()
    (images / "truncated.jpg").write_bytes(whole[: len(whole) // 3])
    (images / "text.jpg").write_text("this is no image\n" * 50)
    Image.new("RGB", (1, 1), "red").save(images / "tiny.jpg")
    stripes = np.random.default_rng(0).integers(0, 256, (5, 2000, 3), dtype=np.uint8)
    Image.fromarray(stripes).resize((20000, 50), Image.Resampling.NEAREST).save(images / "strip.jpg")
    project.succeed()
    return project


def submissions(project: Project) -> dict[str, dict[str, list[str]]]:
    """Return per variant and query the ranked ids."""
    tables = {variant: project.load(f"{variant}.submission") for variant in VARIANTS}
    return {
        variant: {row.id: row.images.split() for row in table.itertuples()}
        for variant, table in tables.items()
    }


def test_unreadable_images_are_named_and_counted(bad_images: Project) -> None:
    skipped = bad_images.load("skipped_images").set_index("image_id")
    assert set(skipped.index) == set(BAD_IMAGES)
    for name, (split, _, reason) in BAD_IMAGES.items():
        assert skipped.loc[name, "split"] == split
        assert reason in skipped.loc[name, "reason"]
    reports = bad_images.root / "data" / "08_reporting"
    assert "4 images were skipped as unreadable" in (reports / "ablation.txt").read_text()
    page = (reports / "report.html").read_text()
    assert all(name in page for name in BAD_IMAGES)


def test_unreadable_images_are_never_found(bad_images: Project) -> None:
    for variant, results in submissions(bad_images).items():
        assert len(results) == 4
        assert results.pop("truncated") == [], variant
        found = {image for images in results.values() for image in images}
        assert not found & BAD_IMAGES.keys(), variant
        assert "strip" in found, variant
    table = bad_images.load("image_table")
    descriptors = bad_images.load("blend.descriptors")
    norms = dict(zip(table["image_id"], np.linalg.norm(descriptors.matrix, axis=1), strict=True))
    for name, norm in norms.items():
        assert norm == pytest.approx(0 if name in BAD_IMAGES else 1, abs=1e-5), name


def test_unreadable_query_scores_nothing_and_counts(bad_images: Project) -> None:
    table = bad_images.table()
    # Of four queries that have positives one cannot be read, so none of the metrics reaches 1.
    assert (table["mAP_at_100"] <= 0.75 + 1e-9).all()
    assert (table["mAP_at_100"] > 0.2).all()
    assert bad_images.load("blend.metrics")["queries"] == 4


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda table: pd.concat([table, table.iloc[[3]].assign(path="images/another.jpg")]),
            "lines 5 and 16: duplicate image_id 'piazza_san_marco_00'",
        ),
        (
            lambda table: table.assign(split=table["split"].replace("train", "trian")),
            ": split 'trian' of image 'london_bridge_01' is unknown; allowed are query, index, train",
        ),
        (lambda table: table.drop(columns="path"), "column path is missing"),
        (lambda table: table.assign(path="nowhere/" + table["path"]), "none of its 14 image files exists"),
    ],
    ids=["duplicate", "unknown-split", "no-path", "wrong-folder"],
)
def test_bad_tables_are_refused(
    project: Project,
    edit_table: Edit,
    change: Callable[[pd.DataFrame], pd.DataFrame],
    expected: str,
) -> None:
    edit_table(project, change)
    message = project.refuse()
    assert expected in message
    assert str(project.root / "photos" / "images.csv") in message
    assert not (project.root / "data" / "02_intermediate" / "tiny" / "image_table.csv").exists()


def test_without_train_images_the_last_two_variants_are_equal(
    project: Project, edit_table: Edit, caplog: pytest.LogCaptureFixture
) -> None:
    edit_table(project, lambda table: table[table["split"] != "train"])
    with caplog.at_level(logging.INFO, logger="landmark_retrieval"):
        project.succeed()
    assert "no train images, so semi-supervised EGT has no labels to use and equals plain EGT" in caplog.text
    results = submissions(project)
    assert results["blend_qe_sv_semisup_egt"] == results["blend_qe_sv_egt"]
    table = project.table().set_index("variant").drop(columns="seconds")
    assert table.loc["blend_qe_sv_semisup_egt"].equals(table.loc["blend_qe_sv_egt"])
    assert "0 train images" in (project.root / "data/08_reporting/ablation.txt").read_text()


def test_k_larger_than_the_index_is_cut_without_a_word(
    project_with_results: Project, caplog: pytest.LogCaptureFixture
) -> None:
    project_with_results.succeed("--pipelines", "knn_graph", "--params", "knn.k=500")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    graph = project_with_results.load("blend.knn_graph")
    assert (graph.queries.neighbors[:, :6] >= 0).all()
    assert (graph.queries.neighbors[:, 6:] == -1).all()
    assert (graph.index.neighbors[:, 5:] == -1).all()


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ("knnn.k=3", ("unknown parameter 'knnn': did you mean 'knn'?", "blend", "egt", "intervals")),
        ("knn.kk=3", ("Parameter 'knn': unknown option 'kk': did you mean 'k'?", "memory_gib, storage")),
        (
            "verification.ransac.treshold=3",
            ("Parameter 'verification': unknown option 'treshold': did you mean 'threshold'?",),
        ),
        ("knn.k=0", ("Parameter 'knn': option 'k' should be greater than or equal to 1, got 0",)),
        (
            "expansion.images=many",
            ("Parameter 'expansion': option 'images' should be a valid integer, got \"many\"",),
        ),
        (
            "expansion.method=mean",
            ("Parameter 'expansion': option 'method'", "'average', 'alpha', 'rank' or 'inlier_weighted'"),
        ),
        (
            "local_features.extractor.name=orb",
            ("'local_features': option 'extractor.name' should be one of 'aliked', 'disk'", 'got "orb"'),
        ),
        ("gem.backbone.name=resnet5000", ("unknown network 'resnet5000'",)),
    ],
)
def test_refused_parameters(bare_project: Project, parameters: str, expected: tuple[str, ...]) -> None:
    message = bare_project.refuse("--params", parameters)
    for part in expected:
        assert part in message
    assert "Failed to instantiate" not in message
    assert "validation error" not in message
    assert "http" not in message


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (
            {"verificaton": {"candidates": 5}},
            ("unknown parameter 'verificaton'", "'verification'", "knn"),
        ),
        ({"ranking": {"lenght": 5}}, ("unknown option 'lenght': did you mean 'length'? options here are",)),
        ({"gem": {**DESCRIPTOR, "poling": {}}}, ("Parameter 'gem': unknown option 'poling'", "'pooling'")),
    ],
)
def test_misspelt_names_in_files(
    project: Project, groups: dict[str, object], expected: tuple[str, ...]
) -> None:
    project.configure(**groups)
    for part in expected:
        assert part in project.refuse()


def test_several_refused_parameters_are_all_named(bare_project: Project) -> None:
    message = bare_project.refuse("--params", "knn.kk=3,ranking.lenght=4")
    assert message.count("unknown option") == 2
    assert "; Parameter '" in message


def test_folder_environment_says_how_to_give_the_folder(bare_project: Project) -> None:
    assert "--params image_root=DIR" in bare_project.refuse(env="folder")
    missing = str(bare_project.root / "not there")
    message = bare_project.refuse("--params", f"image_root={missing}", env="folder")
    assert f"{missing}: no such folder" in message
    assert "--params image_root=DIR" in message
    assert "no such folder" in bare_project.refuse("--params", "image_root=absent")


def test_folder_of_sub_folders_gets_its_splits_written(project: Project) -> None:
    shutil.copy(project.root / "conf/test/parameters.yml", project.root / "conf/folder/parameters.yml")
    photos, folders = project.root / "photos" / "images", project.root / "mine"
    for file in photos.iterdir():
        landmark = "distractors" if file.name.startswith("other") else file.stem[:-3]
        (folders / landmark).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folders / landmark)
    # Splits drawn twice with one seed are the same.
    tables = []
    for _ in range(2):
        arguments = ("--nodes", "prepare_image_table", "--params", f"image_root={folders}")
        result = project.run(*arguments, env="folder")
        assert result.exit_code == 0, result.output
        name = data_set_name(None, str(folders))
        tables.append(pd.read_csv(project.root / "data" / "02_intermediate" / name / "image_table.csv"))
    assert tables[0].equals(tables[1])
    rows = SplitRows.from_table(tables[0])
    assert rows.query.stop == 3
    assert len(rows) == 14
    assert tables[0]["landmark"].nunique() == 3
    assert name.startswith("mine-")


def test_pipelines_that_do_not_exist(bare_project: Project) -> None:
    message = bare_project.refuse("--pipelines", "knn_grpah")
    assert message.startswith("unknown pipeline 'knn_grpah': did you mean 'knn_graph'? pipelines here are ")


def test_environments_that_do_not_exist(bare_project: Project) -> None:
    expected = "unknown environment 'foldr': did you mean 'folder'? environments here are base, folder, "
    assert bare_project.refuse(env="foldr").startswith(expected)
    for command in (["search", "photo.jpg"], ["serve"]):
        with bare_project.entered():
            result = CliRunner().invoke(cli, [*command, "--env", "foldr"])
        assert result.exit_code == 1
        assert result.output.startswith(f"Error: {expected}")


def test_all_commands_run_the_same() -> None:
    assert find_run_command("landmark_retrieval") is cli.commands["run"]


def kedro(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `kedro` in a process of its own, without what the environment says of warnings and telemetry."""
    unset = ("PYTHONWARNINGS", "DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    return subprocess.run(
        [str(Path(sys.executable).with_name("kedro")), *arguments],
        cwd=project.root,
        env={**environment, "MLFLOW_TRACKING_URI": f"sqlite:///{project.root}/mlflow.db"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_nothing_is_printed_beside_what_was_asked_for(project_with_results: Project) -> None:
    shown = kedro(project_with_results, "--help")
    assert shown.stdout.startswith("Usage: kedro")
    assert shown.stderr == ""
    node = "evaluation.log_mlflow_run_of_blend"
    finished = kedro(project_with_results, "run", "--env", "test", "--nodes", node)
    assert finished.returncode == 0, finished.stderr
    assert "Warning" not in finished.stderr


def test_missing_artifact_from_the_command_line(project: Project) -> None:
    finished = kedro(project, "run", "--env", "test", "--pipelines", "evaluation")
    assert finished.returncode == 1
    assert "Traceback" not in finished.stderr
    (line,) = (line for line in finished.stderr.splitlines() if line.startswith("Error: "))
    assert line.startswith("Error: the artifact '")
    assert "make it with `kedro run --pipelines " in line
    assert finished.stderr.rstrip().endswith(line)
    assert project.mlflow_runs() == []


def test_ablation_command(finished_project: Project, bare_project: Project) -> None:
    with finished_project.entered():
        result = CliRunner().invoke(cli, ["ablation"])
    assert result.exit_code == 0
    assert all(variant in result.output for variant in VARIANTS)
    assert "make mlflow" in result.output
    with bare_project.entered():
        result = CliRunner().invoke(cli, ["ablation"])
    assert result.exit_code == 1
    assert result.output.startswith("Error: data/08_reporting/ablation.txt: no ablation table yet")


def test_test_environment_differs_from_base_as_meant(bare_project: Project) -> None:
    loaded = bare_project.catalog().load("parameters")
    for group in PARAMETERS:
        given = loaded[group].model_dump(mode="json", exclude_unset=True)
        assert given.keys() == PARAMETERS[group].keys()

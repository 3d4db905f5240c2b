from __future__ import annotations

import shutil
from typing import Any

import mlflow
import numpy as np
import pytest
from click.testing import CliRunner
from kedro.framework.startup import bootstrap_project
from mlflow.entities import Run

from kedro_project import Project
from landmark_retrieval.cli import cli
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.pipeline_registry import register_pipelines
from landmark_retrieval.reporting import figures
from landmark_retrieval.retrieval import stages
from variant_names import VARIANTS


def fail(*_: Any, **__: Any) -> Any:
    raise LandmarkRetrievalError("the disk\nis full")


def by_name(runs: list[Run]) -> dict[str, Run]:
    return {run.info.run_name: run for run in runs}


def test_failing_node_marks_the_run_and_keeps_artifacts(
    project_with_results: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs = project_with_results.root / "data" / "07_model_output" / "tiny"
    shutil.rmtree(outputs / "blend_qe_sv_egt")
    index_graph = (
        project_with_results.root / "data" / "05_model_input" / "tiny" / "blend_qe_sv" / "index_graph"
    )
    shutil.rmtree(index_graph)
    before = project_with_results.shards()
    monkeypatch.setattr(stages, "rank_trusted", fail)
    assert project_with_results.refuse("--pipelines", "egt") == "the disk is full"
    (run,) = project_with_results.mlflow_runs()
    assert run.info.status == "FAILED"
    assert run.info.end_time is not None
    assert (index_graph / "indices.npy").exists()
    assert not (outputs / "blend_qe_sv_egt").exists()
    assert project_with_results.shards() == before
    monkeypatch.undo()
    project_with_results.succeed("--pipelines", "egt")
    first, second = project_with_results.mlflow_runs()
    assert (first.info.status, second.info.status) == ("FAILED", "FINISHED")


def test_failure_within_a_variants_run_marks_both(
    project_with_results: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow, "log_figure", fail)
    assert "the disk is full" in project_with_results.refuse("--nodes", "evaluation.log_mlflow_run_of_blend")
    runs = by_name(project_with_results.mlflow_runs())
    assert {name: run.info.status for name, run in runs.items()} == {
        "tiny": "FAILED",
        "blend": "FAILED",
    }


def test_variants_finished_before_a_failure_stay_finished(
    project_with_results: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "plot_ablation", fail)
    project_with_results.refuse("--pipelines", "evaluation")
    runs = by_name(project_with_results.mlflow_runs())
    assert runs.pop("tiny: evaluation").info.status == "FAILED"
    assert {run.info.status for run in runs.values()} <= {"FINISHED"}


def test_a_run_of_the_caller_is_used_and_stays_open(project_with_results: Project) -> None:
    with project_with_results.entered():
        bootstrap_project(project_with_results.root)
        mlflow.set_experiment("mine")
        with mlflow.start_run(run_name="mine") as outer:
            arguments = ["run", "--env", "test", "--nodes", "evaluation.log_mlflow_run_of_blend"]
            result = CliRunner().invoke(cli, arguments)
            assert result.exit_code == 0, result.output
            active = mlflow.active_run()
            assert active is not None
            assert active.info.run_id == outer.info.run_id
        assert mlflow.active_run() is None
    runs = by_name(project_with_results.mlflow_runs())
    assert set(runs) == {"mine", "blend"}
    assert runs["blend"].data.tags["mlflow.parentRunId"] == outer.info.run_id


def test_parameters_are_logged_flat(finished_project: Project) -> None:
    parent = by_name(finished_project.mlflow_runs())["tiny"]
    parameters = parent.data.params
    assert parameters["verification.ransac.method"] == "pydegensac"
    assert parameters["local_features.extractor.name"] == "sift"
    assert parameters["verification_executor.backend"] == "sequential"
    assert not any("Config(" in value for value in parameters.values())


def test_time_is_measured_of_nodes_and_adds_up_for_variants(finished_project: Project) -> None:
    whole = register_pipelines()["__default__"]
    shown = finished_project.table().set_index("variant")["seconds"]
    # Nodes with several outputs count once; every node before a ranking is there.
    for variant in VARIANTS:
        making = finished_project.load(f"{variant}.making")
        assert set(making.seconds) == {node.name for node in whole.to_outputs(f"{variant}.ranking").nodes}
        assert shown[variant] == pytest.approx(sum(making.seconds.values()), abs=0.06)  # a decimal is shown


def test_what_the_store_holds_counts_the_time_it_took(project_with_results: Project) -> None:
    name = "gem.fit_region_whitening"
    project_with_results.succeed("--nodes", name)
    for kind in ("pooled_gem", "region_whitening_gem"):
        for index in project_with_results.root.glob(f"data/03_primary/store/{kind}/*/index.npz"):
            with np.load(index) as file:
                stored = {name: file[name] for name in file.files}
            np.savez(index, **{**stored, "seconds": np.full_like(stored["seconds"], 50)})
    project_with_results.succeed("--nodes", name)
    # 14 photos, of which 11 are looked up once more to learn the layer from them.
    for variant in VARIANTS:
        making = project_with_results.load(f"{variant}.making")
        assert making.seconds[name] == pytest.approx(50.0 * (14 + 11 + 1))


def test_a_run_counts_what_it_computed_in_the_log_and_in_mlflow(
    project_with_results: Project, finished_project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    first = by_name(finished_project.mlflow_runs())["tiny"].data.metrics
    turned = first["photos_described"] - 3 * 14  # two networks and local features
    assert turned >= 0 and turned % 3 == 0  # photos without a partner are tried at three turns
    assert first["pairs_verified"] >= len(finished_project.load("verified_pairs"))
    with caplog.at_level("INFO"):
        project_with_results.succeed("--params", "verification.min_inliers=20")
    assert "nothing to do: all descriptions of photos (" in caplog.text
    again = by_name(project_with_results.mlflow_runs())["tiny verification.min_inliers=20"].data.metrics
    assert again["photos_described"] == again["pairs_verified"] == 0


def test_refused_runs_are_neither_tracked_nor_timed(project: Project) -> None:
    project.refuse("--pipelines", "egt")
    project.refuse("--params", "knn.kk=1")
    assert project.mlflow_runs() == []
    assert not (project.root / "data").exists()

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kedro_project import Project
from landmark_retrieval.graph import EgtConfig
from variant_names import VARIANTS

METRICS = ["mAP_at_100", "mAP_at_100_public", "mAP_at_100_private", "P_at_10", "R_at_1", "R_at_10"]
COLUMNS = ["variant", *METRICS, "seconds"]
STAGES = ("features", "knn_graph", "spatial_verification", "egt", "evaluation")


def results_of(project: Project, variant: str) -> dict[str, list[str]]:
    """Return the ranked ids of every query, read from the submission file."""
    file = project.root / "data" / "07_model_output" / "tiny" / variant / "submission.csv"
    lines = file.read_text().splitlines()
    assert lines[0] == "id,images"
    return {line.split(",")[0]: line.split(",")[1].split() for line in lines[1:]}


def slow_scores(results: list[str], positives: set[str]) -> dict[str, float]:
    """Return a query's scores rank by rank, from the published definition."""
    found, total = 0, 0.0
    for rank, image in enumerate(results[:100], start=1):
        if image in positives:
            found += 1
            total += found / rank
    return {
        "mAP_at_100": total / min(len(positives), 100),
        "P_at_10": len(positives.intersection(results[:10])) / 10,
        "R_at_1": float(results[0] in positives) if results else 0.0,
        "R_at_10": len(positives.intersection(results[:10])) / min(len(positives), 10),
    }


def slow_metrics(photos: Path, results: dict[str, list[str]]) -> dict[str, float]:
    table = pd.read_csv(photos / "images.csv", dtype=str, keep_default_na=False)
    index = table[table["split"] == "index"]
    scores = []
    for query in table[table["split"] == "query"].itertuples():
        positives = set(index.loc[index["landmark_id"] == query.landmark_id, "image_id"])
        scores.append({"usage": query.usage, **slow_scores(results[query.image_id], positives)})
    frame = pd.DataFrame(scores)
    metrics = dict(frame.drop(columns="usage").mean())
    for usage in ("Public", "Private"):
        metrics[f"mAP_at_100_{usage.lower()}"] = frame.loc[frame["usage"] == usage, "mAP_at_100"].mean()
    return metrics


def without_seconds(project: Project) -> str:
    return project.table().drop(columns="seconds").to_csv(index=False)


def test_ablation_table(finished_project: Project) -> None:
    header, *rows = (
        (finished_project.root / "data" / "08_reporting" / "ablation.csv").read_text().splitlines()
    )
    assert header.split(",") == COLUMNS
    assert tuple(row.split(",")[0] for row in rows) == VARIANTS
    table = finished_project.table()
    blend, qe_sv, egt, semisup_egt = table["seconds"]
    assert (
        0 < blend <= qe_sv <= min(egt, semisup_egt)
    )  # each holds what it is built on; neither EGT the other
    metrics = table.drop(columns=["variant", "seconds"]).to_numpy()
    assert ((metrics >= 0) & (metrics <= 1)).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_metrics_equal_a_slow_reference(finished_project: Project, variant: str) -> None:
    expected = slow_metrics(finished_project.root / "photos", results_of(finished_project, variant))
    row = finished_project.table().set_index("variant").loc[variant]
    stored = json.loads(
        (finished_project.root / f"data/07_model_output/tiny/{variant}/metrics.json").read_text()
    )
    for name, value in expected.items():
        assert row[name] == pytest.approx(value, abs=1e-12), name
        assert stored[name] == pytest.approx(value, abs=1e-12), name


@pytest.mark.parametrize("variant", VARIANTS)
def test_submissions_name_index_images_once(finished_project: Project, variant: str) -> None:
    table = finished_project.load("image_table")
    results = results_of(finished_project, variant)
    assert list(results) == table.loc[table["split"] == "query", "image_id"].tolist()
    index = set(table.loc[table["split"] == "index", "image_id"])
    for images in results.values():
        assert len(images) <= 100
        assert len(images) == len(set(images))
        assert set(images) <= index
    ranking = finished_project.load(f"{variant}.ranking").rows
    assert ranking.shape == (3, 100)
    ids = table.loc[table["split"] == "index", "image_id"].to_numpy()
    assert [ids[row[row >= 0]].tolist() for row in ranking] == list(results.values())


def test_reports(finished_project: Project) -> None:
    reports = finished_project.root / "data" / "08_reporting"
    text = (reports / "ablation.txt").read_text()
    assert "data set tiny: 3 queries, 6 index images, 5 train images" in text
    assert "No image was skipped." in text
    assert all(variant in text for variant in VARIANTS)
    assert (reports / "ablation.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((reports / "ablation.plotly.json").read_text())["data"]
    page = (reports / "report.html").read_text()
    assert all(query in page for query in ("piazza_san_marco_00", "sacre_coeur_00"))


def test_one_mlflow_run_with_four_nested_ones(finished_project: Project) -> None:
    runs = finished_project.mlflow_runs()
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    children = {run.info.run_name: run for run in runs if run is not parent}
    assert len(runs) == 5
    assert set(children) == set(VARIANTS)
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert {run.info.experiment_id for run in runs} == {parent.info.experiment_id}
    assert parent.data.params["knn.k"] == "100"
    assert parent.data.params["gem.backbone.name"] == "tf_efficientnet_lite0"
    assert finished_project.artifacts(parent) == {
        "ablation.csv",
        "ablation_intervals.csv",
        "ablation.png",
        "report.html",
    }
    table = finished_project.table().set_index("variant")
    for variant, run in children.items():
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.tags["variant"] == variant
        assert run.data.params["variant"] == variant
        assert run.data.params["verification.candidates"] == "auto"
        assert float(run.data.params["egt.t"]) == EgtConfig().settled().t
        for name in METRICS:
            assert run.data.metrics[name] == pytest.approx(table.loc[variant, name], abs=1e-12)
        assert run.data.metrics["seconds"] > 0
        assert finished_project.artifacts(run) >= {"submission.csv", "average_precision.png"}


def test_second_run_reuses_shards_and_repeats_the_table(
    project_with_results: Project, finished_project: Project
) -> None:
    before = project_with_results.shards()
    assert len(before) >= 12
    project_with_results.succeed()
    after = project_with_results.shards()
    assert {file: after[file] for file in before} == before
    # The photos of a copied project lie elsewhere: they are digested once more, and known by their bytes.
    added = set(after) - set(before)
    assert {file.relative_to(project_with_results.root).parts[3] for file in added} <= {"contents"}
    assert without_seconds(project_with_results) == without_seconds(finished_project)
    assert len(project_with_results.mlflow_runs()) == 5
    project_with_results.succeed("--pipelines", "evaluation")
    runs = project_with_results.mlflow_runs()
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert [parent.info.run_name for parent in parents] == ["tiny", "tiny: evaluation"]
    assert {parent.data.tags["data_set"] for parent in parents} == {"tiny"}
    for parent in parents:
        names = {
            run.info.run_name for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id
        }
        assert names == set(VARIANTS)
    assert len(runs) == 10
    # The table of an evaluation alone still knows what the other stages took.
    assert (project_with_results.table()["seconds"] > 0).all()


def test_stages_run_alone_in_order_and_name_what_is_missing(
    project: Project, finished_project: Project
) -> None:
    for done, made_by in enumerate(STAGES[:-1]):
        for later in STAGES[done + 1 :]:
            message = project.refuse("--pipelines", later)
            assert message.startswith("the artifact '")
            missing = ",".join(STAGES[done : STAGES.index(later)])
            assert f"is missing: make it with `kedro run --pipelines {missing}`" in message
        assert project.mlflow_runs() == [] or made_by != "features"
        project.succeed("--pipelines", made_by)
    project.succeed("--pipelines", STAGES[-1])
    assert without_seconds(project) == without_seconds(finished_project)
    for variant in VARIANTS:
        assert results_of(project, variant) == results_of(finished_project, variant)


def test_changed_option_recomputes_only_what_depends_on_it(project_with_results: Project) -> None:
    before = project_with_results.shards()
    project_with_results.succeed("--params", "verification.candidates=3,egt.t=0.9,label_bridge.query_votes=1")
    after = project_with_results.shards()
    changed = {file.relative_to(project_with_results.root).parts[3] for file in after.keys() ^ before.keys()}
    kept = ("pooled", "descriptors", "local_features", "region_whitening")
    assert not any(kind.startswith(kept) for kind in changed)
    runs = {run.info.run_name: run for run in project_with_results.mlflow_runs()}
    assert runs["blend_qe_sv_egt"].data.params["egt.t"] == "0.9"


def test_queries_find_their_landmark(finished_project: Project) -> None:
    table = finished_project.table().set_index("variant")
    assert table.loc["blend", "mAP_at_100"] > 0.5
    assert not math.isnan(table["mAP_at_100_private"].iloc[0])
    graph = finished_project.load("blend.knn_graph")
    assert (graph.index.neighbors[:, 0] >= 0).all()
    assert not (graph.index.neighbors == np.arange(6)[:, None]).any()

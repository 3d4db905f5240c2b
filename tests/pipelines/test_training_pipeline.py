"""Training and the sweep as users run them: tracked, stored, and read by the next run."""

import json
from collections.abc import Callable

import mlflow
import numpy as np
import pandas as pd

from kedro_project import Project


def test_trained_descriptors_are_tracked_registered_and_used(project_with_results: Project) -> None:
    project = project_with_results
    project.configure(
        training={
            "epochs": 2,
            "landmarks_per_batch": 2,
            "images_per_landmark": 2,
            "max_side": 96,
            "held_out": 0.0,
            "register_as": "landmarks",
        }
    )
    untrained = np.array(project.load("blend.descriptors").matrix)
    project.succeed("--pipelines", "training")
    (run,) = project.mlflow_runs()
    with project.entered():
        client = mlflow.MlflowClient()
        for name in ("gem", "dir"):
            curve = client.get_metric_history(run.info.run_id, f"training.{name}.loss")
            assert [point.step for point in curve] == [1, 2]
        versions = client.search_model_versions("name='landmarks'")
    assert {version.tags["descriptor"] for version in versions} == {"gem", "dir"}
    models = project.root / "data" / "06_models" / "tiny"
    files = {name: models / name / "trained.safetensors" for name in ("gem", "dir")}
    assert all(file.exists() for file in files.values())
    options = [
        option
        for name, file in files.items()
        for option in (f"{name}.trained=true", f"{name}.trained_file={file.relative_to(project.root)}")
    ]
    project.succeed("--to-nodes", "evaluation.blend.evaluate", "--params", ",".join(options))
    trained = np.array(project.load("blend.descriptors").matrix)
    assert trained.shape[0] == untrained.shape[0] and np.abs(trained - untrained).max() > 1e-3
    assert 0 <= project.load("blend.metrics")["mAP_at_100"] <= 1


def test_what_a_sweep_chooses_is_tracked_and_read_by_the_next_run(
    project: Project, edit_table: Callable[..., None]
) -> None:
    def more_train_images(table: pd.DataFrame) -> pd.DataFrame:
        moved = table["image_id"].isin(["sacre_coeur_05", "sacre_coeur_06"])
        return table.assign(split=table["split"].mask(moved, "train"))

    edit_table(project, more_train_images)
    project.configure(
        egt_sweep={
            "query_fraction": 0.34,
            "train_fraction": 0.34,
            "t": [0.15, float("inf")],
            "votes": [[1, 3]],
            "min_similarity": [0.05],
            "order": ["row"],
        }
    )
    project.succeed("--pipelines", "features,egt_sweep")
    points = [run for run in project.mlflow_runs() if run.data.tags.get("sweep") == "egt"]
    assert {float(run.data.params["t"]) for run in points} >= {0.15, float("inf")}
    assert {run.data.tags["commit"] for run in points} == {project.load("run_facts")["commit"]}
    chosen = [run for run in points if run.data.tags["chosen"] == "True"]
    best = max(run.data.metrics["held_out_mAP_at_100"] for run in points)
    assert best in {run.data.metrics["held_out_mAP_at_100"] for run in chosen}
    project.succeed("--pipelines", "knn_graph,spatial_verification,egt")
    options = project.load("traversal_options").model_dump()
    (file,) = project.root.glob("data/06_models/**/chosen_options.json")
    written = json.loads(file.read_text(encoding="utf-8"))
    assert options["egt"]["t"] == written["egt"]["t"]
    assert written["egt"]["t"] in {float(run.data.params["t"]) for run in chosen}
    assert options["label_bridge"]["index_votes"] == 3 and options["label_bridge"]["query_votes"] == 1

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from kedro.io import DataCatalog, DatasetError
from matplotlib.figure import Figure
from mlflow import MlflowClient

from landmark_retrieval.configuration import Configuration
from landmark_retrieval.io import MlflowVariantRunDataset
from landmark_retrieval.io.mlflow_run import flatten, table_digest


@dataclass(frozen=True)
class Run:
    """What a variant's run looks like to the dataset."""

    name: str
    parameters: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    figures: dict[str, Any] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, pd.DataFrame] = field(default_factory=dict)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)


class Options(Configuration):
    k: int = 100
    device: str | None = None


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One SQLite store for the module: making its tables takes most of the time."""
    folder = tmp_path_factory.mktemp("mlflow")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.create_experiment("landmarks", artifact_location=(folder / "artifacts").as_uri())
    yield mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(before)


@pytest.fixture(autouse=True)
def experiment(store: str) -> Iterator[str]:
    yield str(mlflow.set_experiment("landmarks").experiment_id)
    while mlflow.active_run():
        mlflow.end_run()


def runs_named(name: str) -> list[Any]:
    return mlflow.search_runs(
        search_all_experiments=True, filter_string=f"attributes.run_name = '{name}'", output_format="list"
    )


def test_models_are_inputs_and_the_same_model_is_one_entry() -> None:
    gem, other = {"backbone": {"name": "resnet50"}, "scales": [1, 0.5]}, {"backbone": {"name": "resnet101"}}
    for models in ({"gem": gem, "dir": other}, {"gem": gem, "dir": gem}):
        MlflowVariantRunDataset().save(Run(name="with models", models=models))
    first, second = (
        {entry.model_id for entry in mlflow.get_run(run.info.run_id).inputs.model_inputs}
        for run in runs_named("with models")
    )
    assert len(first) == len(second) == 2
    (shared,) = first & second
    model = mlflow.get_logged_model(shared)
    assert (model.name, model.params) == ("gem", {"backbone.name": "resnet50", "scales": "[1, 0.5]"})


def test_the_digest_of_a_table_is_of_its_images_not_of_their_place() -> None:
    images = pd.DataFrame(
        {
            "image_id": [f"i{number}" for number in range(20_000)],
            "path": [f"a/{number}.jpg" for number in range(20_000)],
            "split": ["query", "index"] * 10_000,
            "landmark_id": pd.array([1, None] * 10_000, dtype="Int64"),
        }
    )
    moved = images.assign(path="elsewhere.jpg")
    assert table_digest(moved) == table_digest(images)
    changed = images.copy()
    changed.loc[19_999, "split"] = "train"
    assert table_digest(changed) != table_digest(images)
    assert table_digest(images.iloc[::-1]) != table_digest(images)


def test_a_data_set_is_logged_without_warnings() -> None:
    images = pd.DataFrame({"image_id": ["a"], "landmark_id": [1]})
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*integer column.*")
        MlflowVariantRunDataset().save(Run(name="quiet", inputs={"demo": images}))
    (logged,) = runs_named("quiet")
    (data_set,) = logged.inputs.dataset_inputs
    assert data_set.dataset.name == "demo"


def test_everything_is_logged_in_a_nested_run() -> None:
    figure = Figure()
    figure.subplots().plot([0, 1])
    run = Run(
        name="blend",
        parameters={"knn": Options(), "verification": {"ransac": {"pixels": 4.0}}, "scales": [1, 0.5]},
        metrics={"mAP_at_100": 0.5, "mAP_at_100_private": float("nan"), "P@10": 1, "bad": float("inf")},
        tags={"data_set": "demo"},
        tables={"submission.csv": pd.DataFrame({"id": ["q"], "images": ["a b"]})},
        figures={"figure.png": figure},
        texts={"notes/readme.txt": "größer"},
        inputs={"demo": pd.DataFrame({"image_id": ["a", "b"], "split": ["query", "index"]})},
    )
    with mlflow.start_run(run_name="kedro run") as parent:
        MlflowVariantRunDataset().save(run)
        assert mlflow.active_run().info.run_id == parent.info.run_id
    (logged,) = runs_named("blend")
    assert logged.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert logged.info.status == "FINISHED"
    assert logged.data.params == {
        "knn.k": "100",
        "knn.device": "None",
        "verification.ransac.pixels": "4.0",
        "scales": "[1, 0.5]",
    }
    assert logged.data.metrics == {"mAP_at_100": 0.5, "P_10": 1.0}
    assert logged.data.tags["data_set"] == "demo" and logged.data.tags["variant"] == "blend"
    files = {item.path for item in MlflowClient().list_artifacts(logged.info.run_id)}
    assert files == {"submission.csv", "figure.png", "notes"}
    text = mlflow.artifacts.load_text(f"{logged.info.artifact_uri}/submission.csv")
    assert text.splitlines() == ["id,images", "q,a b"]
    assert MlflowVariantRunDataset(variant="blend").load() == {"mAP_at_100": 0.5, "P_10": 1.0}


def test_without_an_active_run_it_is_a_run_of_its_own_and_the_latest_counts() -> None:
    entry = MlflowVariantRunDataset(variant="alone")
    assert not entry.exists()
    with pytest.raises(DatasetError, match="no finished MLflow run of variant 'alone'") as caught:
        entry.load()
    assert "\n" not in str(caught.value)
    for value in (0.1, 0.2):
        entry.save(Run("alone", metrics={"mAP_at_100": value}))
    assert mlflow.active_run() is None
    assert len(runs_named("alone")) == 2
    assert "mlflow.parentRunId" not in runs_named("alone")[0].data.tags
    assert entry.exists() and entry.load() == {"mAP_at_100": 0.2}


def test_a_named_experiment_is_made_and_searched() -> None:
    entry = MlflowVariantRunDataset(variant="elsewhere", experiment="another")
    assert not entry.exists()
    entry.save(Run("elsewhere", metrics={"m": 1.0}))
    assert entry.load() == {"m": 1.0}
    assert mlflow.get_experiment_by_name("another") is not None
    assert not MlflowVariantRunDataset(variant="elsewhere").exists()


def test_limits_of_mlflow_are_kept() -> None:
    many = {f"p{number}": number for number in range(250)}
    parameters = {"long": "x" * 7000, "odd (name)": 1, "k" * 300: 2, "many": many}
    MlflowVariantRunDataset().save(Run("limits", parameters, tags={"t": "y" * 9000}))
    (logged,) = runs_named("limits")
    assert len(logged.data.params) == 253
    assert len(logged.data.params["long"]) == 6000 and logged.data.params["long"].endswith("...")
    assert logged.data.params["odd _name_"] == "1"
    assert len(logged.data.tags["t"]) == 8000


def test_a_failed_save_is_no_finished_run() -> None:
    entry = MlflowVariantRunDataset(variant="failing")
    with pytest.raises(DatasetError):
        entry.save(Run("failing", metrics={"m": 1.0}, figures={"figure.png": "no figure"}))
    assert mlflow.active_run() is None
    assert runs_named("failing")[0].info.status == "FAILED"
    assert not entry.exists()


def test_names_must_agree() -> None:
    with pytest.raises(DatasetError, match="'blend', got 'other'"):
        MlflowVariantRunDataset(variant="blend").save(Run("other"))


def test_loading_without_a_name() -> None:
    entry = MlflowVariantRunDataset()
    assert not entry.exists()
    with pytest.raises(DatasetError, match="variant:"):
        entry.load()
    entry.save(Run("unnamed", metrics={"m": 3.0}))
    assert entry.load() == {"m": 3.0}


def test_in_a_catalog_of_variants() -> None:
    catalog = DataCatalog.from_config(
        {
            "{variant}.mlflow_run": {
                "type": "landmark_retrieval.io.MlflowVariantRunDataset",
                "variant": "{variant}",
                "metadata": {"kedro-viz": {"layer": "reporting"}},
            }
        }
    )
    catalog.save("blend_qe_sv.mlflow_run", Run("blend_qe_sv", metrics={"m": 0.5}))
    assert catalog.load("blend_qe_sv.mlflow_run") == {"m": 0.5}
    assert catalog["blend_qe_sv.mlflow_run"].preview() == '{"m": 0.5}'


@pytest.mark.parametrize(
    ("parameters", "flat"),
    [
        ({"a": {"b": {"c": 1}}, "d": None}, {"a.b.c": "1", "d": "None"}),
        ({"a": {}}, {"a": "{}"}),
        ({}, {}),
        (Options(k=3), {"k": "3", "device": "None"}),
        ({"p": Path("x"), "l": [{"k": 1}]}, {"p": "x", "l": '[{"k": 1}]'}),
    ],
)
def test_flatten(parameters: Any, flat: dict[str, str]) -> None:
    assert dict(flatten(parameters)) == flat

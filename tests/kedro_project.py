"""Fixtures of whole runs: a small Kedro project in a temporary folder, with the configuration of this one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import mlflow
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner, Result
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import DataCatalog
from mlflow.entities import Run

from landmark_retrieval.cli import cli
from landmark_retrieval.descriptors import DESCRIPTORS
from landmark_retrieval.retrieval import PhotoSearch, read_index

ROOT = Path(__file__).resolve().parents[1]
PHOTOS = (
    *["piazza_san_marco_00", "piazza_san_marco_01", "piazza_san_marco_02", "piazza_san_marco_03"],
    *["piazza_san_marco_04", "sacre_coeur_00", "sacre_coeur_02", "sacre_coeur_03", "sacre_coeur_05"],
    *["sacre_coeur_06", "london_bridge_00", "london_bridge_01", "london_bridge_02", "other_painting"],
)
"""Photos of the demo that the runs use: 3 queries, 6 index and 5 train images."""

DESCRIPTOR = {
    "backbone": {"name": "tf_efficientnet_lite0", "weights": "package", "stage": -1},
    "max_side": 96,
    "scales": [1.0],
    "shard_size": 8,
}
PARAMETERS: dict[str, Any] = {
    "gem": {**DESCRIPTOR, "pooling": {"kind": "gem"}},
    "dir": {**DESCRIPTOR, "pooling": {"kind": "rmac", "power": None}},
    "local_features": {
        "extractor": {"name": "sift"},
        "max_side": 256,
        "max_keypoints": 200,
        "shard_size": 8,
    },
    "verification_executor": {"backend": "sequential"},
    "report": {"queries": 2, "results": 3, "paths": 1, "thumbnail_side": 48},
}
"""What the environment `test` changes: everything small and in one process."""


@dataclass(frozen=True)
class Project:
    """A Kedro project folder and the runs in it."""

    root: Path

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Work in the project, with its own MLflow store, and leave the process as it was."""
        folder, tracking = Path.cwd(), mlflow.get_tracking_uri()
        store = f"sqlite:///{self.root}/mlflow.db"
        with mock.patch.dict(os.environ, {"MLFLOW_TRACKING_URI": store, "KEDRO_DISABLE_TELEMETRY": "1"}):
            os.chdir(self.root)
            try:
                mlflow.set_tracking_uri(store)
                yield
            finally:
                os.chdir(folder)
                mlflow.set_tracking_uri(tracking)

    def run(self, *arguments: str, env: str = "test") -> Result:
        """Run `kedro run` in this process."""
        with self.entered():
            bootstrap_project(self.root)
            result = CliRunner().invoke(cli, ["run", "--env", env, *arguments])
            left_open = mlflow.active_run()
            while mlflow.active_run():
                mlflow.end_run()
        assert left_open is None, "the run's MLflow run was not ended"
        return result

    def succeed(self, *arguments: str) -> None:
        """Run `kedro run`, which must succeed."""
        result = self.run(*arguments)
        if result.exit_code:
            raise AssertionError(result.output) from result.exception

    def refuse(self, *arguments: str, env: str = "test") -> str:
        """Run `kedro run`, which must fail with one line for the user; return that line."""
        result = self.run(*arguments, env=env)
        assert result.exit_code == 1, result.output
        assert isinstance(result.exception, SystemExit), repr(result.exception)
        (line,) = (line for line in result.output.splitlines() if line.startswith("Error: "))
        assert result.output.rstrip().endswith(line)
        return line.removeprefix("Error: ")

    def catalog(self, parameters: Mapping[str, Any] | None = None, env: str = "test") -> DataCatalog:
        """Return the project's catalog."""
        with self.entered():
            bootstrap_project(self.root)
            with KedroSession.create(self.root, env=env, runtime_params=dict(parameters or {})) as session:
                return session.load_context().catalog

    def load(self, name: str) -> Any:
        """Load an artifact."""
        catalog = self.catalog()
        with self.entered():
            return catalog.load(name)

    def table(self) -> pd.DataFrame:
        """Return the ablation table as written."""
        return pd.read_csv(self.root / "data" / "08_reporting" / "ablation.csv")

    def mlflow_runs(self) -> list[Run]:
        """Return all MLflow runs, the first one first."""
        with self.entered():
            runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
        return sorted(runs, key=lambda run: run.info.start_time)

    def artifacts(self, run: Run) -> set[str]:
        """Return the names of the files that an MLflow run holds."""
        with self.entered():
            return {file.path for file in mlflow.MlflowClient().list_artifacts(run.info.run_id)}

    def shards(self) -> dict[Path, int]:
        """Return every stored shard with its time of change; a run may be writing and renaming meanwhile."""
        found = {}
        for folder, _, names in os.walk(self.root / "data"):  # goes on where a folder has just vanished
            for name in names:
                if name.endswith(".npz") and name != "index.npz":
                    with suppress(FileNotFoundError):
                        found[Path(folder, name)] = Path(folder, name).stat().st_mtime_ns
        return found

    def configure(self, **groups: Any) -> None:
        """Replace parameter groups of the environment `test`."""
        _write(self.root / "conf" / "test" / "parameters.yml", {**PARAMETERS, **groups})

    def copy(self, root: Path) -> Project:
        """Return a copy with all that was made, but without MLflow runs."""
        shutil.copytree(self.root, root, ignore=shutil.ignore_patterns("mlruns", "mlflow.db"))
        shutil.copy(self.root / "empty.db", root / "mlflow.db")
        return Project(root)


def _write(file: Path, content: Mapping[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(dict(content)), encoding="utf-8")


def _photo_table(demo_root: Path) -> pd.DataFrame:
    table = pd.read_csv(demo_root / "images.csv", dtype=str, keep_default_na=False)
    table = table[table["image_id"].isin(PHOTOS)].reset_index(drop=True)
    queries = table["split"] == "query"
    table["usage"] = ""
    table.loc[queries, "usage"] = ["Public", "Private", "Private"]
    return table


@pytest.fixture(scope="session")
def bare_project(tmp_path_factory: pytest.TempPathFactory, demo_root: Path) -> Project:
    """A project with photos in which nothing ran; copy it before use."""
    root = tmp_path_factory.mktemp("bare")
    shutil.copytree(ROOT / "conf", root / "conf", ignore=shutil.ignore_patterns("local"))
    (root / "conf" / "local").mkdir()
    (root / "src").mkdir()
    shutil.copy(ROOT / "pyproject.toml", root)
    _write(root / "conf" / "test" / "globals.yml", {"data_set": "tiny", "image_root": "photos"})
    project = Project(root)
    project.configure()
    photos = root / "photos"
    (photos / "images").mkdir(parents=True)
    table = _photo_table(demo_root)
    table.to_csv(photos / "images.csv", index=False)
    for path in table["path"]:
        shutil.copy(demo_root / path, photos / path)
    # Making the tables of an MLflow store takes seconds; every project gets a copy of an empty one.
    with project.entered():
        mlflow.search_experiments()
    shutil.copy(root / "mlflow.db", root / "empty.db")
    return project


@pytest.fixture(scope="session")
def finished_project(bare_project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in which `kedro run` ran once; do not change it."""
    project = bare_project.copy(tmp_path_factory.mktemp("finished") / "project")
    project.succeed()
    return project


@pytest.fixture
def project(bare_project: Project, tmp_path: Path) -> Project:
    """A project of the test's own in which nothing ran."""
    return bare_project.copy(tmp_path / "project")


@pytest.fixture
def project_with_results(finished_project: Project, tmp_path: Path) -> Project:
    """A project of the test's own that holds the artifacts of a run."""
    return finished_project.copy(tmp_path / "project")


@pytest.fixture
def edit_table() -> Callable[..., None]:
    """Function that changes a project's `images.csv`: `edit_table(project, function of the DataFrame)`."""

    def edit(project: Project, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
        file = project.root / "photos" / "images.csv"
        change(pd.read_csv(file, dtype=str, keep_default_na=False)).to_csv(file, index=False)

    return edit


@pytest.fixture(scope="session")
def photo_search(finished_project: Project) -> PhotoSearch:
    """A search in the index of `finished_project`."""
    catalog = finished_project.catalog()
    with finished_project.entered():
        return PhotoSearch(read_index(catalog.load, DESCRIPTORS))

"""MLflow that does not answer: at the start, in the middle, and runs that are stopped from outside."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import mlflow
import pytest

from kedro_project import Project
from landmark_retrieval.commands.killed import killed_runs_marked
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.io import tracking
from landmark_retrieval.io.tracking import (
    TrackingConfig,
    go_on_locally,
    has_stopped,
    local_store,
    usable_store,
    why_unreachable,
)

CLOSED = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tracking")


@pytest.fixture
def store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A store in the working folder."""
    before = mlflow.get_tracking_uri()
    monkeypatch.chdir(folder)
    mlflow.set_tracking_uri(local_store())
    mlflow.set_experiment("Default")  # of an earlier test, MLflow remembers a number
    yield local_store()
    while mlflow.active_run():
        mlflow.end_run()
    mlflow.set_tracking_uri(before)


def test_stores_that_answer_and_stores_that_do_not(store: str) -> None:
    before = dict(os.environ)
    assert why_unreachable(store) == ""
    start = time.perf_counter()
    assert why_unreachable(CLOSED) == "connection refused"
    assert time.perf_counter() - start < 10
    assert "maintenance mode" in why_unreachable("file:./mlruns")
    assert why_unreachable("sqlite:///none/mlflow.db") == "its folder is missing"
    Path("broken.db").write_text("no database, but long enough to be read as one")
    assert why_unreachable("sqlite:///broken.db") == "file is not a database"
    assert dict(os.environ) == before


def test_a_server_that_is_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "PATIENCE", 0.05)
    with mock.patch.object(mlflow, "MlflowClient", side_effect=lambda **_: time.sleep(1)):
        assert why_unreachable(CLOSED) == "no answer within 0 s"


def test_a_run_stops_or_goes_on_locally(store: str, caplog: pytest.LogCaptureFixture) -> None:
    assert usable_store(store, TrackingConfig()) == store
    with pytest.raises(
        LandmarkRetrievalError, match=r"127\.0\.0\.1:9 \(connection refused\); start its server"
    ) as caught:
        usable_store(CLOSED, TrackingConfig())
    assert "\n" not in str(caught.value)
    assert usable_store(CLOSED, TrackingConfig(unreachable="local")) == store
    assert "this run is logged to sqlite:///" in caplog.text


def test_an_outage_in_the_middle_goes_on_locally(store: str) -> None:
    run = mlflow.start_run(run_name="demo k=3", tags={"data_set": "demo"})
    nested = mlflow.start_run(run_name="blend", nested=True)
    mlflow.set_tracking_uri(CLOSED)
    with mock.patch("time.sleep"), mock.patch.object(tracking, "why_unreachable", return_value="refused"):
        assert has_stopped()
    with mock.patch.object(mlflow, "active_run", side_effect=[run, run, nested, None]):
        found = go_on_locally("landmarks", {"knn.k": "3"})
    assert mlflow.active_run().info.run_id == found
    assert not has_stopped()  # the local store always answers
    logged = mlflow.get_run(found)
    assert (logged.info.run_name, logged.data.tags["data_set"]) == ("demo k=3", "demo")
    assert logged.data.params == {"knn.k": "3"}
    assert mlflow.get_experiment(logged.info.experiment_id).name == "landmarks"


def test_a_server_that_restarts_is_waited_for() -> None:
    with (
        mock.patch("time.sleep"),
        mock.patch.object(mlflow, "get_tracking_uri", return_value=CLOSED),
        mock.patch.object(mlflow, "active_run"),
        mock.patch.object(tracking, "why_unreachable", side_effect=["refused", ""]),
    ):
        assert not has_stopped()


@pytest.mark.parametrize("how", ["SIGTERM", "Ctrl+C"])
def test_stopped_runs_end_as_killed(store: str, how: str) -> None:
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises((SystemExit, KeyboardInterrupt)), killed_runs_marked():
        runs = [mlflow.start_run(experiment_id="0"), mlflow.start_run(experiment_id="0", nested=True)]
        if how == "Ctrl+C":
            raise KeyboardInterrupt
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
    assert mlflow.active_run() is None
    assert [mlflow.get_run(run.info.run_id).info.status for run in runs] == ["KILLED", "KILLED"]
    assert signal.getsignal(signal.SIGTERM) == handler


def test_failures_are_no_kills(store: str) -> None:
    with pytest.raises(ValueError, match="no kill"), killed_runs_marked():
        mlflow.start_run(experiment_id="0")
        raise ValueError("no kill")
    assert mlflow.active_run() is not None


def test_runs_where_nobody_answers(bare_project: Project, tmp_path: Path) -> None:
    project = bare_project.copy(tmp_path / "project")
    (project.root / "conf" / "test" / "mlflow.yml").write_text(
        f"server: {{mlflow_tracking_uri: '{CLOSED}'}}\n"
    )
    start = time.perf_counter()
    message = project.refuse("--params", "knn.k=0")
    assert time.perf_counter() - start < 120
    assert "Parameter 'knn': option 'k' should be" in message
    assert f"MLflow cannot be used at {CLOSED} (connection refused)" in message
    project.succeed("--nodes", "prepare_image_table", "--params", "tracking.unreachable=local")
    assert (project.root / "data" / "02_intermediate" / "tiny" / "image_table.csv").is_file()
    assert [run.info.status for run in project.mlflow_runs()] == ["FINISHED"]

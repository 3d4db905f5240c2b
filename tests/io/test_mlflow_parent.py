"""Names of runs, and runs whose process is gone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import pytest

from landmark_retrieval.io.mlflow_parent import PROCESS_TAG, end_killed_runs, identifying_tags, run_name


@pytest.mark.parametrize(
    ("pipelines", "overrides", "name"),
    [
        ([], {}, "vietnam5"),
        (["__default__"], {"egt": {"t": 0.3}}, "vietnam5 egt.t=0.3"),
        (["egt", "evaluation"], {"egt": {"t": 0.3, "p": 50}}, "vietnam5: egt, evaluation egt.t=0.3 egt.p=50"),
        (["own_descriptors"], {"descriptors": {"files": "a.npy"}, "data_root": "/x"}, "vietnam5"),
    ],
)
def test_run_name(pipelines: list[str], overrides: dict[str, Any], name: str) -> None:
    """What was overridden tells runs apart; folders are in the data set's name already."""
    assert run_name("vietnam5", pipelines, overrides) == name


def test_runs_of_processes_that_are_gone_end_as_killed(tmp_path: Path) -> None:
    """Those within them, too; runs of living processes and of other machines stay open."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    try:
        client = mlflow.MlflowClient()
        experiment = client.create_experiment("e")
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        host = socket.gethostname()
        own = identifying_tags("abc")[PROCESS_TAG]
        processes = {
            "dead": f"{host}:{gone.pid}:7",
            "of an earlier version": f"{host}:{gone.pid}",
            "number taken again": f"{host}:{os.getppid()}:7",
            "parent": f"{host}:{os.getppid()}",
            "own": own,
            "far": "elsewhere:1:7",
        }
        runs = {
            name: client.create_run(experiment, run_name=name, tags={PROCESS_TAG: process}).info.run_id
            for name, process in processes.items()
        }
        within = client.create_run(experiment, run_name="blend", tags={"mlflow.parentRunId": runs["dead"]})
        killed = ["dead", "of an earlier version", "number taken again"]
        assert sorted(end_killed_runs(experiment)) == sorted(killed)
        status = {name: client.get_run(run).info.status for name, run in runs.items()}
        assert status == {name: "KILLED" if name in killed else "RUNNING" for name in processes}
        assert client.get_run(within.info.run_id).info.status == "KILLED"
    finally:
        mlflow.set_tracking_uri(before)

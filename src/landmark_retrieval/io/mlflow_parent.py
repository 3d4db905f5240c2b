"""The MLflow run of a whole `kedro run`: its name, what identifies it, and what becomes of killed ones."""

from __future__ import annotations

import os
import shlex
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import RunStatus

from landmark_retrieval.runtime.parameters import flat

WHOLE = ("__default__", "own_descriptors", "own_descriptors_verified")
"""Pipelines whose name says nothing that the data set does not."""

NOT_IN_NAMES = ("image_root", "data_root", "distractors", "labels", "protocol", "descriptors")
"""Runtime parameters that the name of the data set stands for."""

PROCESS_TAG = "process"
"""Tag with host, process and its start, by which the next start of a run knows one that was killed."""


def run_name(data_set: str, pipelines: Sequence[str], overrides: Mapping[str, Any]) -> str:
    """Return the name of a run: data set, pipelines unless all of them ran, and what was overridden.

    Args:
        data_set: its name.
        pipelines: names as given; empty or None in them for the default.
        overrides: runtime parameters, nested.
    """
    named = [name for name in pipelines if name and name not in WHOLE]
    changed = [f"{name}={value}" for name, value in flat(overrides) if name.split(".")[0] not in NOT_IN_NAMES]
    return " ".join([f"{data_set}: {', '.join(named)}" if named else data_set, *changed])


def identifying_tags(commit: str) -> dict[str, str]:
    """Return tags that say which code ran, by which command, in which process."""
    command = shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
    return {
        "commit": commit,
        "command": command,
        PROCESS_TAG: f"{socket.gethostname()}:{os.getpid()}:{_started(os.getpid())}",
    }


def end_killed_runs(experiment_id: str) -> list[str]:
    """End runs as KILLED that are still open although their process on this machine is gone.

    Args:
        experiment_id: where they are looked for.

    Returns:
        The names of the runs that were ended, those within them not named.
    """
    client = mlflow.MlflowClient()
    open_runs = client.search_runs([experiment_id], "attributes.status = 'RUNNING'")
    killed = {run.info.run_id: run.info.run_name for run in open_runs if _is_gone(run.data.tags)}
    for run in open_runs:
        if run.info.run_id in killed or run.data.tags.get("mlflow.parentRunId") in killed:
            client.set_terminated(run.info.run_id, RunStatus.to_string(RunStatus.KILLED))
    return list(killed.values())


def _is_gone(tags: Mapping[str, str]) -> bool:
    host, process, started = (*tags.get(PROCESS_TAG, "").split(":"), "", "")[:3]
    if host != socket.gethostname() or not process.isdigit():
        return False
    if started and started != _started(int(process)):
        return True  # another process has got the number
    if int(process) == os.getpid():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _started(process: int) -> str:
    """Return when a process was started, in ticks since the machine was; "" where that cannot be known."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""

"""Whether MLflow answers, and where a run goes on logging when it does not."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse

import mlflow
from mlflow.entities import RunStatus

from landmark_retrieval.configuration import Configuration
from landmark_retrieval.errors import LandmarkRetrievalError

logger = logging.getLogger(__name__)

SQLITE = "sqlite:///"

PATIENCE = 8.0
"""Seconds that a server has to answer."""

PATIENCE_IN_RUNS = 30.0
"""The same once a run has begun: a busy server is slow, and that is no reason to leave it."""

NO_RETRIES = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
"""Of MLflow while a server is tried; by itself it tries for minutes."""

IN_RUNS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
"""Of MLflow in runs, unless the environment says otherwise."""


class TrackingConfig(Configuration):
    """How runs are tracked.

    Attributes:
        unreachable: what a run does when MLflow does not answer at its start: `stop`, or `local`: log to
            `mlflow.db` in the folder of the project. A run that has begun always goes on, and logs there.
    """

    unreachable: Literal["stop", "local"] = "stop"


def local_store() -> str:
    """Return where runs are logged that the server did not take: `mlflow.db` in the folder of the project."""
    return f"{SQLITE}{Path.cwd() / 'mlflow.db'}"


def why_unreachable(uri: str, patience: float | None = None) -> str:
    """Return why MLflow cannot be used at an address, "" where it can.

    Args:
        uri: tracking address, of a server or a store.
        patience: seconds that it may take, `PATIENCE` by default.
    """
    patience = PATIENCE if patience is None else patience
    if uri.startswith(SQLITE):  # MLflow takes long to make one, and longer to give one up
        return _why_unusable(Path(uri.removeprefix(SQLITE)))
    problem = [f"no answer within {patience:.0f} s"]

    def ask() -> None:
        try:
            mlflow.MlflowClient(tracking_uri=uri).search_experiments(max_results=1)
            problem[0] = ""
        except Exception as error:  # stores raise what their databases and networks raise
            problem[0] = _in_short(error)

    with _environment({**NO_RETRIES, "MLFLOW_HTTP_REQUEST_TIMEOUT": f"{max(1, round(patience))}"}):
        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(patience)
    return problem[0]


def usable_store(uri: str, config: TrackingConfig) -> str:
    """Return where a run is logged: at the address if MLflow answers there, else what the options say.

    Args:
        uri: tracking address.
        config: options.

    Raises:
        LandmarkRetrievalError: it does not answer, and the run should stop.
    """
    problem = why_unreachable(uri)
    if not problem:
        return uri
    local = local_store()
    if config.unreachable == "stop" or uri.startswith(SQLITE):
        raise LandmarkRetrievalError(
            f"MLflow cannot be used at {uri} ({problem}); start its server, set MLFLOW_TRACKING_URI to a "
            f"store such as {local}, or log there with --params tracking.unreachable=local"
        )
    logger.warning("MLflow cannot be used at %s (%s); this run is logged to %s", uri, problem, local)
    return local


def go_on_locally(experiment: str, parameters: Mapping[str, str]) -> str:
    """Go on with the active run in the local store, as its server does not answer any more.

    The new run has the name, tags and parameters of the old one.

    Args:
        experiment: name of the experiment.
        parameters: that were logged so far, by name.

    Returns:
        The id of the new run.
    """
    old, local = mlflow.active_run(), local_store()
    logger.warning(
        "MLflow at %s does not answer any more; the run goes on and is logged to %s",
        mlflow.get_tracking_uri(),
        local,
    )
    mlflow.set_tracking_uri(local)
    while mlflow.active_run():
        try:
            mlflow.end_run()
        except mlflow.MlflowException:  # the local store does not know it
            continue
    mlflow.set_experiment(experiment)
    name = None if old is None else old.info.run_name
    tags = {} if old is None else {key: value for key, value in old.data.tags.items() if "mlflow." not in key}
    run = mlflow.start_run(run_name=name, tags=tags)
    for key, value in parameters.items():
        mlflow.log_param(key, value[:500])
    return str(run.info.run_id)


def has_stopped() -> bool:
    """Tell whether the server of the active run does not answer any more; local stores always do."""
    uri = mlflow.get_tracking_uri()
    if mlflow.active_run() is None or urlparse(uri).scheme not in ("http", "https"):
        return False
    for pause in (0, 2, 4):  # a server may just be restarting
        time.sleep(pause)
        if not why_unreachable(uri, PATIENCE_IN_RUNS):
            return False
    return True


def end_as_killed() -> None:
    """End all active runs as KILLED; a server that does not answer leaves them to the next start."""
    while mlflow.active_run():
        try:
            mlflow.end_run(RunStatus.to_string(RunStatus.KILLED))
        except Exception as error:  # whatever it is, the process ends
            logger.debug("a killed run could not be ended: %s", error)


def be_brief() -> None:
    """Let MLflow give up a request within a minute, unless the environment says otherwise."""
    for name, value in IN_RUNS.items():
        os.environ.setdefault(name, value)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before: dict[str, Any] = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _why_unusable(file: Path) -> str:
    """Return why a file is no SQLite database, "" where it is one or can become one."""
    if not file.parent.is_dir():
        return "its folder is missing"
    if not file.exists():
        return ""
    try:
        with closing(sqlite3.connect(file)) as database:
            database.execute("PRAGMA schema_version")
    except sqlite3.Error as error:
        return str(error)
    return ""


def _in_short(error: Exception) -> str:
    """Return what an error says first, without addresses of objects and requests."""
    text = " ".join(str(error).split())
    if "Connection refused" in text:
        return "connection refused"
    if "Name or service not known" in text or "name resolution" in text:
        return "no such host"
    return re.split(r"(?<=[.;]) ", text)[0][:200] or type(error).__name__

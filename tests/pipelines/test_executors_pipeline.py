"""The same `kedro run` on processes and on a Dask cluster, and after a kill: equal bytes."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kedro_project import Project

STAGES = "knn_graph,spatial_verification"


def shard_bytes(project: Project) -> dict[str, bytes]:
    return {str(file.relative_to(project.root)): file.read_bytes() for file in project.shards()}


def forget_shards(project: Project) -> None:
    for name in ("verification_shards", "neighbor_shards"):
        for file in project.root.glob(f"data/05_model_input/**/{name}/*"):
            file.unlink()


@pytest.mark.parametrize("workers", [1, 2])
def test_processes_give_the_bytes_of_a_sequential_run(
    project_with_results: Project, finished_project: Project, workers: int
) -> None:
    forget_shards(project_with_results)
    options = f"verification_executor.backend=loky,verification_executor.workers={workers}"
    project_with_results.succeed("--pipelines", STAGES, "--params", options)
    assert shard_bytes(project_with_results) == shard_bytes(finished_project)


def test_a_dask_cluster_gives_the_bytes_of_a_sequential_run(
    project_with_results: Project, finished_project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        forget_shards(project_with_results)
        options = [
            f"{name}.{option}"
            for name in ("executor", "verification_executor")
            for option in ("backend=dask", f"scheduler={cluster.scheduler_address}")
        ]
        project_with_results.succeed("--pipelines", STAGES, "--params", ",".join(options))
        ran = cluster.scheduler.task_prefixes if hasattr(cluster.scheduler, "task_prefixes") else {}
        assert ran, "nothing ran on the cluster"
    assert shard_bytes(project_with_results) == shard_bytes(finished_project)


def test_killed_at_a_random_moment_and_resumed(project: Project, finished_project: Project) -> None:
    wanted = {name: data for name, data in shard_bytes(finished_project).items() if "train_" not in name}
    shards = random.randrange(1, len(wanted))
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": f"sqlite:///{project.root}/mlflow.db",
        "KEDRO_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
    }
    command = [sys.executable, "-m", "kedro", "run", "--env", "test", "--pipelines", f"features,{STAGES}"]
    with (project.root / "killed.log").open("w") as log:
        process = subprocess.Popen(
            command, cwd=project.root, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            deadline = time.monotonic() + 120
            while len(project.shards()) < shards:
                assert process.poll() is None, Path(log.name).read_text()
                assert time.monotonic() < deadline
                time.sleep(0.002)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    done = project.shards()
    assert len(done) < len(wanted), f"the run was over before it was killed (at shard {shards})"
    project.succeed("--pipelines", f"features,{STAGES}")
    assert shard_bytes(project) == wanted
    after = project.shards()
    assert {file: after[file] for file in done} == done

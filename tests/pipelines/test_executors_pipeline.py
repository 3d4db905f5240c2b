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
SECONDS = 240
"""What a run in a process of its own may take before the test gives it up."""
ON_A_CLUSTER = """
import subprocess, sys
from distributed import LocalCluster

if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        address = cluster.scheduler_address
        command = [argument.replace("ADDRESS", address) for argument in sys.argv[1:]]
        done = subprocess.run(command)
        assert cluster.scheduler.task_prefixes, "nothing ran on the cluster"
    sys.exit(done.returncode)
"""


def shard_bytes(project: Project) -> dict[str, bytes]:
    return {str(file.relative_to(project.root)): file.read_bytes() for file in project.shards()}


def forget_shards(project: Project) -> None:
    for name in ("verification_shards", "neighbor_shards"):
        for file in project.root.glob(f"data/05_model_input/**/{name}/*"):
            file.unlink()


def environment(project: Project) -> dict[str, str]:
    return {
        **os.environ,
        "MLFLOW_TRACKING_URI": f"sqlite:///{project.root}/mlflow.db",
        "KEDRO_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
    }


def kedro_run(*options: str) -> list[str]:
    return [sys.executable, "-m", "kedro", "run", "--env", "test", *options]


def succeed_apart(project: Project, command: list[str]) -> None:
    """Run a command in a process of its own, without this one's threads and open files."""
    done = subprocess.run(
        command, cwd=project.root, env=environment(project), capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stdout + done.stderr


def kill_after(project: Project, command: list[str], shards: int) -> None:
    """Start a command in a process of its own and kill it once it has written so many more shards."""
    before = set(project.shards())
    with (project.root / "killed.log").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=project.root,
            env=environment(project),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + SECONDS
            while len(set(project.shards()) - before) < shards:
                assert process.poll() is None, Path(log.name).read_text()
                assert time.monotonic() < deadline, Path(log.name).read_text()
                time.sleep(0.002)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(SECONDS)


def early(shards: int) -> int:
    """Draw after how many shards to kill: some that are still to come leave time for it."""
    return random.randrange(1, max(2, shards // 2))


@pytest.mark.parametrize("workers", [1, 2])
def test_processes_give_the_bytes_of_a_sequential_run(
    project_with_results: Project, finished_project: Project, workers: int
) -> None:
    forget_shards(project_with_results)
    options = f"verification_executor.backend=loky,verification_executor.workers={workers}"
    project_with_results.succeed("--pipelines", STAGES, "--params", options)
    assert shard_bytes(project_with_results) == shard_bytes(finished_project)


def test_a_dask_cluster_gives_the_bytes_of_a_sequential_run(
    project_with_results: Project, finished_project: Project
) -> None:
    pytest.importorskip("distributed")
    forget_shards(project_with_results)
    options = [
        f"{name}.{option}"
        for name in ("executor", "verification_executor")
        for option in ("backend=dask", "scheduler=ADDRESS")
    ]
    command = kedro_run("--pipelines", STAGES, "--params", ",".join(options))
    succeed_apart(project_with_results, [sys.executable, "-c", ON_A_CLUSTER, *command])
    assert shard_bytes(project_with_results) == shard_bytes(finished_project)


def test_features_killed_at_a_random_moment_and_resumed(project: Project, finished_project: Project) -> None:
    wanted = {
        without_fingerprint(file.relative_to(finished_project.root))
        for file in finished_project.shards()
        if file.parent.name not in ("verification_shards", "neighbor_shards") and "train_" not in str(file)
    }
    command = kedro_run("--pipelines", "features")
    kill_after(project, command, early(len(wanted)))
    done = project.shards()
    assert len(done) < len(wanted), "the run was over before it was killed"
    succeed_apart(project, command)
    after = project.shards()
    assert {file: after[file] for file in done} == done, "finished shards are not computed again"
    assert sorted(without_fingerprint(file.relative_to(project.root)) for file in after) == sorted(wanted)


def without_fingerprint(shard: Path) -> Path:
    """Return what a shard is of.

    Networks add up in another order where another number of threads runs them, as in this process and in
    one of its own, so what is learned differs in the last bits, and with it what fingerprints depend on.
    Bytes are compared where one process computes all: `tests/test_sharding.py`.
    """
    return shard.with_name(shard.stem.rpartition("-")[0])


def test_stages_killed_at_a_random_moment_and_resumed(
    project_with_results: Project, finished_project: Project
) -> None:
    before = set(project_with_results.shards())
    forget_shards(project_with_results)
    missing = before - set(project_with_results.shards())
    command = kedro_run("--pipelines", STAGES)
    kill_after(project_with_results, command, early(len(missing)))
    done = project_with_results.shards()
    assert set(done) < before, "the run was over before it was killed"
    project_with_results.succeed("--pipelines", STAGES)
    after = project_with_results.shards()
    assert {file: after[file] for file in done} == done, "finished shards are not computed again"
    assert shard_bytes(project_with_results) == shard_bytes(finished_project)

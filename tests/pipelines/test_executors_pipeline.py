"""The same `kedro run` on processes and on a Dask cluster, and after a kill: equal bytes."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
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


def results(project: Project) -> dict[str, bytes]:
    """Return what the stages made: neighbours of both searches, and verified pairs."""
    found = {"pairs": project.load("verified_pairs").to_csv().encode()}
    for variant in ("blend", "blend_qe_sv"):
        graph = project.load(f"{variant}.knn_graph")
        for side in ("queries", "index"):
            lists = getattr(graph, side)
            found[f"{variant} {side}"] = lists.neighbors.tobytes() + lists.weights.tobytes()
    return found


def forget_shards(project: Project) -> None:
    for pattern in ("data/05_model_input/**/neighbor_shards/*", "data/03_primary/store/pairs/*/*.*"):
        for file in project.root.glob(pattern):
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
    assert results(project_with_results) == results(finished_project)


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
    assert results(project_with_results) == results(finished_project)


def test_features_killed_at_a_random_moment_and_resumed(project: Project, finished_project: Project) -> None:
    wanted = len(list(finished_project.root.glob("data/03_primary/store/*/*/*.npz")))
    command = kedro_run("--pipelines", "features")
    kill_after(project, command, early(wanted // 2))
    done = project.shards()
    assert not project.root.joinpath("data/07_model_output/tiny/skipped_images.csv").exists(), "it was over"
    succeed_apart(project, command)
    after = project.shards()
    assert {file: after[file] for file in done} == done, "finished shards are not computed again"
    # Networks add up in another order where another number of threads runs them, as in this process and in
    # one of its own: bytes are compared where one process computes all (tests/descriptors).
    for name in ("gem.raw_descriptors", "dir.raw_descriptors"):
        expected, found = (np.asarray(one.load(name).matrix) for one in (finished_project, project))
        np.testing.assert_allclose(found, expected, atol=2e-3)


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
    assert results(project_with_results) == results(finished_project)

"""Resumable shards: reuse, replacement, kills, and equal bytes from every executor."""

import logging
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem
from threadpoolctl import threadpool_limits

from blas_threads import blas_threads
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.runtime.sharding import (
    ATTEMPTS,
    ExecutorConfig,
    ShardPlan,
    ShardStore,
    ShardTask,
    changed_parameters,
)


@dataclass(frozen=True)
class Numbers:
    """A shard of pseudo-random numbers that leaves a trace of each computation."""

    seed: int
    trace: str
    kill_once: str = ""
    fail: bool = False
    kill_always: str = ""

    def __call__(self):
        if self.kill_always:
            with Path(self.kill_always).open("a") as file:
                file.write("x")
            os._exit(9)
        if self.kill_once and not Path(self.kill_once).exists():
            Path(self.kill_once).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fail:
            raise ValueError("shard 2 is broken")
        with Path(self.trace).open("a") as file:
            file.write(f"{self.seed}\n")
        return {"numbers": np.random.default_rng(self.seed).normal(size=50), "seed": np.array([self.seed])}


def plan(trace, count=5, version="1", executor="sequential", workers=None, **special):
    """Return a plan whose shard 2 gets the special options."""
    tasks = [
        ShardTask(
            key=f"part-{i}",
            fingerprint=version if i != 1 or version == "1" else f"{version}b",
            compute=Numbers(i, str(trace), **(special if i == 2 else {})),
        )
        for i in range(count)
    ]
    return ShardPlan("numbers", tasks, ExecutorConfig(backend=executor, workers=workers), {"kind": "test"})


def shard_bytes(folder):
    return {path.name: path.read_bytes() for path in sorted(Path(folder).glob("*.npz"))}


def computed(trace):
    return sorted(int(line) for line in Path(trace).read_text().split()) if Path(trace).exists() else []


@pytest.fixture
def reference(tmp_path):
    ShardStore(str(tmp_path / "reference")).run(plan(tmp_path / "reference.txt"))
    return shard_bytes(tmp_path / "reference")


def test_written_arrays_come_back_in_the_order_of_the_plan(tmp_path):
    store = ShardStore(str(tmp_path / "store"))
    assert not store.exists()
    store.run(plan(tmp_path / "trace.txt"))
    assert store.exists() and len(store) == 5
    assert [int(shard["seed"][0]) for shard in store] == list(range(5))
    assert store.manifest()["metadata"] == {"kind": "test"}
    assert store.seconds() >= 0


def test_missing_artifact_is_a_clear_error(tmp_path):
    with pytest.raises(LandmarkRetrievalError, match="nowhere"):
        ShardStore(str(tmp_path / "nowhere")).manifest()


def test_a_second_run_computes_nothing(tmp_path):
    store = ShardStore(str(tmp_path / "store"))
    store.run(plan(tmp_path / "trace.txt"))
    before = (store.fingerprint(), store.seconds(), shard_bytes(store.root))
    store.run(plan(tmp_path / "trace.txt"))
    assert computed(tmp_path / "trace.txt") == list(range(5))
    assert (store.fingerprint(), store.seconds(), shard_bytes(store.root)) == before


def test_stale_shards_are_replaced_and_said_so(tmp_path, caplog):
    store = ShardStore(str(tmp_path / "store"))
    store.run(plan(tmp_path / "trace.txt"))
    first = store.fingerprint()
    changed = plan(tmp_path / "trace.txt")
    task = changed.tasks[3]
    tasks = [*changed.tasks[:3], ShardTask(task.key, "2", Numbers(7, str(tmp_path / "trace.txt")))]
    with caplog.at_level(logging.INFO):
        store.run(ShardPlan("numbers", tasks))
    assert "3 of 4 shards are done already, 1 to compute, 2 made from other inputs" in caplog.text
    assert computed(tmp_path / "trace.txt") == [0, 1, 2, 3, 4, 7]
    assert sorted(shard_bytes(store.root)) == [f"part-{i}-{v}.npz" for i, v in enumerate("1112")]
    assert sorted(path.name for path in Path(store.root).glob("*.seconds")) == [
        f"part-{i}-{v}.npz.seconds" for i, v in enumerate("1112")
    ]
    assert store.fingerprint() != first


def test_changed_parameters_are_named(tmp_path, caplog):
    store = ShardStore(str(tmp_path / "store"))

    def run(version, **parameters):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            tasks = plan(tmp_path / "trace.txt", version=version).tasks
            store.run(ShardPlan("numbers", tasks, parameters=parameters))
        return caplog.text

    assert "changed" not in run("1", ransac={"threshold": 4.0, "seed": 0}, scales=(1.0, 0.5))
    assert "changed" not in run("1", ransac={"threshold": 4.0, "seed": 0}, scales=(1.0, 0.5))
    text = run("2", ransac={"threshold": 3.0, "seed": 0}, scales=(1.0, 0.5))
    assert "numbers: parameters changed (ransac.threshold 4.0 → 3.0): 5 shards are done again" in text
    assert "numbers: inputs changed: 5 shards" in run(
        "3", ransac={"threshold": 3.0, "seed": 0}, scales=(1, 0.5)
    )


def test_differences_of_parameters():
    before = {"a": 1, "b": {"c": [1, 2], "d": None}, "gone": 0}
    after = {"a": 1, "b": {"c": (1, 3), "d": "x"}, "new": True}
    assert changed_parameters(before, after) == [
        "b.c [1, 2] → [1, 3]",
        "b.d None → x",
        "gone 0 → (none)",
        "new (none) → True",
    ]
    assert changed_parameters(before, before) == []
    assert changed_parameters({}, after) == []


@pytest.mark.parametrize("scheme", ["memory://test-of-sharding", "file://{folder}", "local://{folder}"])
def test_other_file_systems_hold_the_same_bytes(tmp_path, reference, scheme):
    store = ShardStore(scheme.format(folder=tmp_path / "remote"))
    store.run(plan(tmp_path / "trace.txt", count=3))
    store.run(plan(tmp_path / "trace.txt"))
    assert computed(tmp_path / "trace.txt") == list(range(5))
    assert {name: store._fs.cat_file(store._path(name)) for name in store.manifest()["shards"]} == reference
    assert not [name for name in store._names() if name.endswith(".tmp")]


@pytest.mark.parametrize("noted", [True, False])
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: bytes(len(content)),
        lambda content: b"",
        lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:],
    ],
)
def test_damaged_shards_are_named_and_computed_again(tmp_path, caplog, damage, noted):
    store = ShardStore(str(tmp_path / "store"))
    store.run(plan(tmp_path / "trace.txt"))
    before = shard_bytes(store.root)
    names = store.manifest()["shards"]
    for name in names[1:3]:
        file = Path(store.root) / name
        file.write_bytes(damage(file.read_bytes()))
        note = Path(store.root) / f"{name}.seconds"
        if not noted:  # as versions before this one wrote it
            note.write_text(note.read_text().split()[0])
    store.run(plan(tmp_path / "trace.txt"))
    assert shard_bytes(store.root) == before
    assert computed(tmp_path / "trace.txt") == [0, 1, 1, 2, 2, 3, 4]
    assert f"2 shards are damaged and computed again: {names[1]}, {names[2]}" in caplog.text


def test_a_shard_with_the_content_of_another_is_computed_again(tmp_path):
    store = ShardStore(str(tmp_path / "store"))
    store.run(plan(tmp_path / "trace.txt"))
    before = shard_bytes(store.root)
    first, second, *_ = (Path(store.root) / name for name in store.manifest()["shards"])
    first.write_bytes(second.read_bytes())
    store.run(plan(tmp_path / "trace.txt"))
    assert shard_bytes(store.root) == before


def test_seconds_of_shards_are_read_in_one_call(tmp_path, monkeypatch):
    store = ShardStore(str(tmp_path / "bucket [1]*"))
    tasks = plan(tmp_path / "trace.txt").tasks
    store.run(ShardPlan("numbers", tasks))
    for number, task in enumerate(tasks):
        (Path(store.root) / f"{task.file_name}.seconds").write_text(f"{2**number}.5")
    (Path(store.root) / f"{tasks[1].file_name}.seconds").unlink()
    calls, cat_ranges = [], LocalFileSystem.cat_ranges

    def counted(self, paths, *arguments, **named):
        calls.append(len(paths))
        return cat_ranges(self, paths, *arguments, **named)

    monkeypatch.setattr(LocalFileSystem, "cat_ranges", counted)
    store.run(ShardPlan("numbers", tasks))
    assert store.seconds() == 1.5 + 4.5 + 8.5 + 16.5
    assert calls == [5]


def test_file_systems_that_cannot_be_had_are_one_line(tmp_path, monkeypatch):
    with pytest.raises(LandmarkRetrievalError, match="nosuch://x: no such file system") as caught:
        ShardStore("nosuch://x").exists()
    assert "\n" not in str(caught.value)

    def missing(url):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(LandmarkRetrievalError, match=r"s3://b/x: .* missing \(Install s3fs to access S3\)"):
        ShardStore("s3://b/x").exists()


def test_a_failing_shard_stops_the_run_and_keeps_what_is_done(tmp_path, reference):
    store = ShardStore(str(tmp_path / "store"))
    with pytest.raises(ValueError, match="shard 2 is broken"):
        store.run(plan(tmp_path / "trace.txt", fail=True))
    assert not store.exists()
    store.run(plan(tmp_path / "trace.txt"))
    assert computed(tmp_path / "trace.txt") == list(range(5))
    assert shard_bytes(store.root) == reference


def test_an_interrupted_change_keeps_the_artifact_before_it(tmp_path):
    store = ShardStore(str(tmp_path / "store"))
    store.run(plan(tmp_path / "trace.txt"))
    before = store.fingerprint()
    with pytest.raises(ValueError, match="broken"):
        store.run(plan(tmp_path / "trace.txt", version="2", fail=True))
    assert store.fingerprint() == before
    assert len(list(store)) == 5


def test_equal_keys_are_refused(tmp_path):
    task = ShardTask("same", "1", Numbers(0, str(tmp_path / "trace.txt")))
    with pytest.raises(LandmarkRetrievalError, match="same key"):
        ShardStore(str(tmp_path / "store")).run(ShardPlan("numbers", [task, task]))


def test_an_empty_plan_is_a_complete_artifact(tmp_path):
    store = ShardStore(str(tmp_path / "store"))
    store.run(ShardPlan("nothing", []))
    assert store.exists() and list(store) == []


@pytest.mark.parametrize(("backend", "workers"), [("threading", 2), ("loky", 1), ("loky", 2)])
def test_equal_bytes_from_every_executor(tmp_path, reference, backend, workers):
    store = ShardStore(str(tmp_path / "store"))
    store.run(plan(tmp_path / "trace.txt", executor=backend, workers=workers))
    assert shard_bytes(store.root) == reference


@pytest.mark.parametrize("backend", ["loky", "dask"])
def test_equal_bytes_although_a_worker_is_killed(tmp_path, reference, backend):
    if backend == "dask":
        pytest.importorskip("distributed")
    store = ShardStore(str(tmp_path / "store"))
    marker = tmp_path / "killed"
    store.run(plan(tmp_path / "trace.txt", executor=backend, workers=2, kill_once=str(marker)))
    assert marker.exists()
    assert shard_bytes(store.root) == reference
    assert set(computed(tmp_path / "trace.txt")) == set(range(5))
    assert not list(Path(store.root).glob(".*tmp"))


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("backend", "workers"), [("loky", 2), ("dask", 2), ("dask", 1)])
def test_a_shard_that_always_kills_its_worker_ends_the_run(tmp_path, reference, backend, workers):
    if backend == "dask":
        pytest.importorskip("distributed")
    store = ShardStore(str(tmp_path / "store"))
    deaths = tmp_path / "deaths.txt"
    deadly = plan(tmp_path / "trace.txt", executor=backend, workers=workers, kill_always=str(deaths))
    with pytest.raises(LandmarkRetrievalError, match=r"numbers: worker .* keep dying at shard part-\d; "):
        store.run(deadly)
    assert len(deaths.read_text()) == ATTEMPTS
    assert not store.exists()
    store.run(plan(tmp_path / "trace.txt"))
    assert shard_bytes(store.root) == reference


@dataclass(frozen=True)
class OnlyHere:
    """A shard that cannot be unpickled: Dask itself raises the error."""

    def __call__(self):
        return {}

    def __reduce__(self):
        return int, ("no number",)


@pytest.mark.timeout(120)
def test_errors_of_dask_itself_end_the_run(tmp_path):
    pytest.importorskip("distributed")
    broken = ShardPlan("broken", [ShardTask("a", "1", OnlyHere())], ExecutorConfig(backend="dask", workers=1))
    with pytest.raises(RuntimeError, match="deserialization"):
        ShardStore(str(tmp_path / "store")).run(broken)


def test_an_unreachable_scheduler_is_named(tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")

    def refuse(address, timeout):
        raise OSError("timed out")

    monkeypatch.setattr(distributed, "Client", refuse)
    busy = ShardPlan(
        "numbers",
        plan(tmp_path / "trace.txt").tasks,
        ExecutorConfig(backend="dask", scheduler="tcp://127.0.0.1:1"),
    )
    with pytest.raises(LandmarkRetrievalError, match=r"127\.0\.0\.1:1.*dask scheduler"):
        ShardStore(str(tmp_path / "store")).run(busy)


def test_resume_after_the_whole_run_is_killed(tmp_path, reference):
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import sys, time
            sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(Path(__file__).parents[1])!r}]
            import test_sharding as module
            original = module.Numbers.__call__
            def slow(self):
                time.sleep(0.0 if self.seed < 2 else 60)
                return original(self)
            module.Numbers.__call__ = slow
            module.ShardStore({str(tmp_path / "store")!r}).run(module.plan({str(tmp_path / "trace.txt")!r}))
            """
        )
    )
    process = subprocess.Popen([sys.executable, str(script)], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while len(shard_bytes(tmp_path / "store")) < 2:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    store = ShardStore(str(tmp_path / "store"))
    assert not store.exists()
    torn = tmp_path / "store" / ".part-2-1.npz.0123.tmp"
    torn.write_bytes(b"half a shard")
    store.run(plan(tmp_path / "trace.txt"))
    assert computed(tmp_path / "trace.txt") == list(range(5))
    assert shard_bytes(store.root) == reference
    assert not torn.exists()


def numpy_threads(seconds: float) -> dict[str, Any]:
    """Return the arrays of a shard: how many threads BLAS had while it was computed."""
    with threadpool_limits(1):
        time.sleep(seconds)  # shards end in another order than they begin
        return {"threads": np.array(sorted(blas_threads()))}


def test_worker_threads_share_a_limit_and_leave_none_behind(tmp_path: Path) -> None:
    before = blas_threads()
    tasks = [
        ShardTask(f"shard-{number}", "x", partial(numpy_threads, 0.05 * (number % 3))) for number in range(12)
    ]
    store = ShardStore(str(tmp_path / "store"))
    store.run(ShardPlan("threads", tasks, ExecutorConfig(backend="threading", workers=3)))
    assert all(shard["threads"].tolist() == [1] for shard in store)
    assert blas_threads() == before

"""One at a time, between processes."""

import subprocess
import sys
import time

import pytest

from landmark_retrieval.runtime.store_files import Folder
from landmark_retrieval.runtime.turns import in_turn

RUN = """
import sys, time
from pathlib import Path
from landmark_retrieval.runtime.store_files import Folder
from landmark_retrieval.runtime.turns import in_turn
trace = Path(sys.argv[2])
with in_turn(Folder(sys.argv[1]), "another"):
    for word in ("begins", "ends"):
        with trace.open("a") as file:
            file.write(word + chr(10))
        time.sleep(float(sys.argv[3]))
"""


def start(tmp_path, seconds):
    command = [sys.executable, "-c", RUN, str(tmp_path / "runs"), str(tmp_path / "trace"), str(seconds)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_runs_do_not_overlap(tmp_path):
    runs = [start(tmp_path, 0.5) for _ in range(3)]
    for run in runs:
        _, errors = run.communicate(timeout=120)
        assert run.returncode == 0, errors
    assert (tmp_path / "trace").read_text().split() == ["begins", "ends"] * 3
    assert list((tmp_path / "runs").iterdir()) == []


def test_nobody_waits_for_a_run_that_was_killed_or_for_itself(tmp_path):
    run = start(tmp_path, 60)
    while not (tmp_path / "trace").exists():
        assert run.poll() is None, run.stderr.read()
        time.sleep(0.05)
    run.kill()
    run.communicate()
    folder = Folder(str(tmp_path / "runs"))
    begin = time.monotonic()
    with in_turn(folder, "another"), in_turn(folder, "another"):
        assert time.monotonic() - begin < 20
    with pytest.raises(KeyError), in_turn(folder, "another"):
        raise KeyError
    assert list((tmp_path / "runs").iterdir()) == []

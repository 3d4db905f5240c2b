"""Changes of an index on disk: whole or not at all, whoever is killed and whoever reads meanwhile."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.knn import NeighborLists
from landmark_retrieval.local_features import LocalFeatures
from landmark_retrieval.retrieval.changes import AddedPhoto, Changes, State
from landmark_retrieval.retrieval.growth import Added
from landmark_retrieval.verification.candidates import AGGREGATED, BLEND

WRITER = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from test_changes import add_one
from landmark_retrieval.retrieval.changes import Changes
changes = Changes(Path(sys.argv[1]), "run")
print("ready", flush=True)
with changes.writing(60):
    while True:
        add_one(changes)
"""


def features(number: int) -> LocalFeatures:
    m = 50 + number % 7
    values = np.full((m, 16), number, np.float16)
    points = np.full((m, 2), number, np.float32)
    return LocalFeatures(points, values, np.ones(m, np.float32), np.ones(m, np.float32), (number, 9))


def add_one(changes: Changes) -> State:
    """Add a photo all of whose parts say its number; every third one is deleted again."""
    before = changes.read()
    number = len(before.photos)
    picture = changes.store_picture(f"{number:016x}", b"x" * 2000)
    photo = AddedPhoto(f"photo{number}", f"{number:016x}", f"{number:016x}", "", picture, features(number))
    plain, aggregated = np.full((1, 8), number, np.float32), np.full((1, 4), number, np.float16)
    known = before.added
    lists = {
        name: NeighborLists(np.full((number + 1, 3), number, np.int32), np.zeros((number + 1, 3), np.float32))
        for name in (BLEND, AGGREGATED)
    }
    gone = np.arange(number + 1) % 3 == 2
    added = Added(
        np.concatenate([known.plain, plain]) if known else plain,
        np.concatenate([known.aggregated, aggregated]) if known else aggregated,
        lists,
        gone,
    )
    return changes.publish(before, [photo], (plain, aggregated), added, {f"pair {number}": number})


def check(state: State) -> None:
    """All parts of a version belong together, and to as many photos as the version has."""
    assert state.version == len(state.photos)
    if state.added is None:
        return
    n = state.version
    assert state.added.plain[:, 0].tolist() == state.added.aggregated[:, 0].tolist() == list(range(n))
    assert state.added.lists[BLEND].neighbors.tolist() == [[n - 1] * 3] * n
    assert state.inliers == {f"pair {number}": number for number in range(n)}
    for number, photo in enumerate(state.photos):
        assert photo.id == f"photo{number}" and photo.features.size == (number, 9)
        assert (photo.features.descriptors == number).all() and len(photo.features) == 50 + number % 7
        assert photo.picture.exists() == (number % 3 != 2)


def test_what_was_published_is_read_and_nothing_else_is_left(tmp_path: Path) -> None:
    changes = Changes(tmp_path / "changes", "run")
    assert changes.read().version == 0
    for number in range(4):
        with changes.writing(0):
            add_one(changes)
        check(changes.read())
        assert changes.newest() == number + 1
    names = sorted(path.name for path in (tmp_path / "changes").iterdir())
    assert [name for name in names if name.startswith("manifest")] == [
        "manifest-00000003.json",
        "manifest-00000004.json",
    ]
    assert len([name for name in names if name.endswith(".lists.npz")]) == 2
    with pytest.raises(LandmarkRetrievalError, match="another run than there is now"):
        Changes(tmp_path / "changes", "other run").read()


def test_of_two_that_publish_the_same_version_one_is_told(tmp_path: Path) -> None:
    changes = Changes(tmp_path, "run")
    before = changes.read()
    add_one(changes)
    assert before.version == 0
    gone = np.zeros(1, np.bool_)
    empty = NeighborLists(np.zeros((0, 0), np.int32), np.zeros((0, 0), np.float32))
    added = Added(np.zeros((0, 8), np.float32), np.zeros((0, 4)), {BLEND: empty, AGGREGATED: empty}, gone)
    with pytest.raises(LandmarkRetrievalError, match="another process has changed the index meanwhile"):
        changes.publish(before, [], (added.plain, added.aggregated), added, {})
    check(changes.read())


def test_a_killed_writer_leaves_the_old_or_the_new_version(tmp_path: Path) -> None:
    changes, versions = Changes(tmp_path / "changes", "run"), []
    for _ in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "changes"), str(Path(__file__).parent)],
            stdout=subprocess.PIPE,
        ) as writer:
            assert writer.stdout is not None and writer.stdout.readline() == b"ready\n"
            before = changes.newest()
            end = time.monotonic() + 60
            while changes.newest() < before + 4 and time.monotonic() < end:
                state = changes.read()  # while it is written
                assert state.version == len(state.photos)
            writer.send_signal(signal.SIGKILL)
        versions.append(changes.newest())
        check(changes.read())
    assert versions[1] > versions[0] >= 4
    with changes.writing(0):  # a killed writer keeps nobody out
        add_one(changes)
    check(changes.read())

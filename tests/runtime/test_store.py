"""The store: what is computed once, damage, kills, two runs at once, and what deletes."""

import errno
import itertools
import json
import logging
import os
import pickle
import random
import re
import signal
import stat
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.runtime import claims as claims_module
from landmark_retrieval.runtime.claims import Claims
from landmark_retrieval.runtime.sharding import ExecutorConfig
from landmark_retrieval.runtime.store import PASSING, Request, Store
from landmark_retrieval.runtime.store_contents import contents, describe, prune
from landmark_retrieval.runtime.store_files import FORMAT, Folder, keep_rows, pack

LETTERS = np.array([f"{n:016x}" for n in range(12)])
NUMBERS = {"network": {"name": "sum", "weights": "abc"}, "size": 3}


def value_of(key: str) -> np.ndarray:
    """The independent truth: what the result of a key is."""
    return np.random.default_rng(int(key, 16)).normal(size=3)


@dataclass(frozen=True)
class Compute:
    """Computes results of keys and leaves a trace of each."""

    keys: tuple
    trace: str
    fail: tuple = ()
    undecodable: tuple = ()
    kill_once: str = ""
    sleep: float = 0.0

    def __call__(self):
        if self.kill_once and not Path(self.kill_once).exists():
            Path(self.kill_once).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self.sleep)
        with Path(self.trace).open("a") as file:
            file.writelines(f"{key}\n" for key in self.keys)
        counts = [int(key, 16) % 3 for key in self.keys]
        reasons = [
            "no photo" if key in self.undecodable else "disk asleep" if key in self.fail else ""
            for key in self.keys
        ]
        return {
            "values": np.array([value_of(key) for key in self.keys]),
            "offsets": np.cumsum([0, *counts]),
            "parts.points": np.repeat([int(key, 16) for key in self.keys], counts),
            "reasons": np.array(reasons, dtype=str),
            PASSING: np.array([key in self.fail for key in self.keys]),
        }


def fill(
    root, keys, trace, size=4, executor="sequential", workers=2, shared=False, namespace=NUMBERS, **options
):
    store = Store(str(root))

    def prepare(positions):
        return Compute(tuple(np.asarray(keys)[positions].tolist()), str(trace), **options)

    where = ExecutorConfig(backend=executor, workers=workers)
    request = Request("numbers", "photo", prepare, size, where, shared)
    filled = store.namespace("numbers", namespace).fill(np.asarray(keys), request)
    return store, filled


def computed(trace):
    return sorted(Path(trace).read_text().split()) if Path(trace).exists() else []


def shards(root):
    return sorted(path for path in Path(root).glob("numbers/*/*.npz") if path.name != "index.npz")


def values(filled):
    return filled.places.read("values")


def expected(keys):
    return np.array([value_of(key) if key else np.zeros(3) for key in keys])


@pytest.fixture
def trace(tmp_path):
    return tmp_path / "trace.txt"


def test_every_result_is_computed_once_whatever_table_asks(tmp_path, trace):
    root = tmp_path / "store"
    store, filled = fill(root, LETTERS[:8], trace)
    np.testing.assert_array_equal(values(filled), expected(LETTERS[:8]))
    assert (store.work[0].wanted, store.work[0].computed) == (8, 8)
    # Another order, repeats, a missing photo, photos gone and photos more: only the new ones are computed.
    table = [*LETTERS[7:2:-1], "", LETTERS[3], *LETTERS[8:10]]
    store, filled = fill(root, table, trace, size=3)
    np.testing.assert_array_equal(values(filled), expected(table))
    assert computed(trace) == sorted(LETTERS[:10])
    assert (store.work[0].wanted, store.work[0].computed) == (7, 2)
    assert filled.places.there.tolist() == [key != "" for key in table]
    store, filled = fill(root, table, trace)
    assert store.work[0].computed == 0 and computed(trace) == sorted(LETTERS[:10])
    assert filled.seconds == pytest.approx(store.work[0].seconds)


def test_results_of_several_rows(tmp_path, trace):
    _, _filled = fill(tmp_path, LETTERS[:5], trace, fail=(LETTERS[1],))
    arrays = max((dict(np.load(shard)) for shard in shards(tmp_path)), key=lambda one: len(one["keys"]))
    for number, key in enumerate(arrays["keys"].tolist()):
        start, stop = arrays["offsets"][number : number + 2]
        assert arrays["parts.points"][start:stop].tolist() == [int(key, 16)] * (int(key, 16) % 3)
    kept = keep_rows({name: arrays[name] for name in arrays if name != "format"}, np.array([2, 0]))
    assert kept["keys"].tolist() == arrays["keys"][[2, 0]].tolist()
    assert len(kept["parts.points"]) == kept["offsets"][-1]


def test_namespaces_are_of_parameters_alone_and_readable(tmp_path, trace):
    fill(tmp_path, LETTERS[:2], trace)
    other = {**NUMBERS, "size": 4}
    _, _filled = fill(tmp_path, LETTERS[:2], trace, namespace=other)
    assert len(computed(trace)) == 4
    facts = [json.loads(path.read_text()) for path in tmp_path.glob("numbers/*/namespace.json")]
    assert sorted(fact["parameters"]["size"] for fact in facts) == [3, 4]
    fill(tmp_path, LETTERS[:2], trace, namespace=dict(reversed(list(NUMBERS.items()))))
    assert len(computed(trace)) == 4, "going back computes nothing, whatever the order of the parameters"


def test_what_may_pass_is_not_kept_and_what_is_no_photo_is(tmp_path, trace):
    options = {"fail": (LETTERS[1],), "undecodable": (LETTERS[2],)}
    _, filled = fill(tmp_path, LETTERS[:4], trace, **options)
    assert dict(filled.reasons) == {1: "disk asleep", 2: "no photo"}
    assert filled.places.there.tolist() == [True, False, True, True]
    _store, filled = fill(tmp_path, LETTERS[:4], trace)
    assert dict(filled.reasons) == {2: "no photo"}
    assert computed(trace) == sorted([*LETTERS[:4], LETTERS[1]])


def cut(content):
    return content[: random.randrange(1, len(content))]


def zeroed(content):
    at = random.randrange(len(content) - 8)
    at = next(i for i in itertools.chain(range(at, len(content)), range(at)) if content[i])
    return content[:at] + bytes(8) + content[at + 8 :]


DAMAGE = {
    "cut": cut,
    "cut_by_one_byte": lambda content: content[:-1],
    "empty": lambda content: b"",
    "zeroed": zeroed,
    "all_zero": lambda content: bytes(len(content)),
    "one_bit": lambda content: content[:200] + bytes([content[200] ^ 4]) + content[201:],
    "longer": lambda content: content + b"more",
    "text": lambda content: b"<html>502 Bad Gateway</html>",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named_and_only_those_results_are_computed_again(tmp_path, trace, damage, caplog):
    root = tmp_path / "store"
    fill(root, LETTERS, trace)
    victim = shards(root)[1]
    held = np.load(victim)["keys"].astype(str).tolist()
    victim.write_bytes(DAMAGE[damage](victim.read_bytes()))
    trace.unlink()
    _, filled = fill(root, LETTERS, trace)
    (line,) = [line for line in caplog.messages if victim.name in line]
    assert "empty" in line or "cut off or damaged" in line
    assert computed(trace) == sorted(held)
    np.testing.assert_array_equal(values(filled), expected(LETTERS))
    caplog.clear()
    fill(root, LETTERS, trace)
    assert computed(trace) == sorted(held) and victim.name not in caplog.text


def test_a_shard_of_another_version_is_named(tmp_path, trace, caplog, monkeypatch):
    root = tmp_path / "store"
    monkeypatch.setattr("landmark_retrieval.runtime.store_files.FORMAT", FORMAT + 1)
    fill(root, LETTERS[:4], trace)
    monkeypatch.undo()
    next(root.glob("numbers/*/index.npz")).unlink()
    fill(root, LETTERS[:4], trace)
    assert f"is of another version (layout {FORMAT + 1}, this is {FORMAT})" in caplog.text
    assert computed(trace) == sorted([*LETTERS[:4]] * 2)


@pytest.mark.parametrize("file", ["index.npz", "namespace.json", "used.json"])
@pytest.mark.parametrize("content", [b"", b"{", None])
def test_what_lies_beside_shards_is_made_anew(tmp_path, trace, file, content):
    fill(tmp_path, LETTERS, trace)
    path = next(tmp_path.glob(f"numbers/*/{file}"))
    path.unlink() if content is None else path.write_bytes(content)
    _, filled = fill(tmp_path, LETTERS, trace)
    np.testing.assert_array_equal(values(filled), expected(LETTERS))
    assert len(computed(trace)) == 12
    assert path.stat().st_size > 1


def test_stray_temporaries_are_named_and_pruned(tmp_path, trace, caplog):
    fill(tmp_path, LETTERS, trace)
    folder = shards(tmp_path)[0].parent
    (folder / ".0123456789ab-x.tmp").write_bytes(b"half a shard")
    fill(tmp_path, LETTERS, trace)
    assert "1 temporary files were left" in caplog.text and len(computed(trace)) == 12
    (pruned,) = prune(Store(str(tmp_path)), dry_run=True)
    assert (pruned.size, pruned.results) == (12, 0) and list(folder.glob(".*.tmp"))
    prune(Store(str(tmp_path)))
    assert not list(folder.glob(".*.tmp")) and len(shards(tmp_path)) == 3


@pytest.mark.parametrize("executor", ["sequential", "threading", "loky", "dask"])
def test_every_executor_gives_the_same(tmp_path, trace, executor):
    if executor == "dask":
        pytest.importorskip("distributed")
    _, filled = fill(tmp_path, LETTERS, trace, size=2, executor=executor)
    np.testing.assert_array_equal(values(filled), expected(LETTERS))
    assert computed(trace) == sorted(LETTERS)


@pytest.mark.parametrize(
    ("executor", "size", "expected"),
    [("sequential", 100, [12]), ("sequential", 5, [4, 4, 4]), ("loky", 100, [4, 4, 4]), ("loky", 2, [2] * 6)],
)
def test_shared_work_has_even_shards_and_one_at_least_for_each_worker(
    tmp_path, trace, executor, size, expected
):
    _, filled = fill(tmp_path, LETTERS, trace, size=size, executor=executor, workers=3, shared=True)
    np.testing.assert_array_equal(values(filled), np.array([value_of(key) for key in LETTERS]))
    assert sorted(len(np.load(shard)["keys"]) for shard in shards(tmp_path)) == expected
    # In the order of the keys: those that stand together are computed together.
    order = {key: place for place, key in enumerate(LETTERS.tolist())}
    for shard in shards(tmp_path):
        places = [order[key] for key in np.load(shard)["keys"].astype(str).tolist()]
        assert places == list(range(places[0], places[0] + len(places)))


def test_a_worker_that_dies_costs_only_its_shard(tmp_path, trace):
    _, filled = fill(tmp_path, LETTERS, trace, executor="loky", kill_once=str(tmp_path / "killed"))
    np.testing.assert_array_equal(values(filled), expected(LETTERS))


def test_memory_and_other_file_systems(trace):
    root = "memory://store-of-a-test"
    for _ in range(2):
        _, filled = fill(root, LETTERS, trace)
        np.testing.assert_array_equal(values(filled), expected(LETTERS))
    assert len(computed(trace)) == 12
    folder = Store(root).namespace("numbers", NUMBERS).folder
    name = next(name for name in folder.listing() if name.endswith(".npz") and name != "index.npz")
    folder.fs.pipe_file(folder.path(name), folder.read(name)[:-3])
    _, filled = fill(root, LETTERS, trace)
    np.testing.assert_array_equal(values(filled), expected(LETTERS))
    assert len(computed(trace)) == 16
    with pytest.raises(LandmarkRetrievalError, match=r"nosuch://x.*no such file system"):
        fill("nosuch://x", LETTERS, trace)


def test_places_are_small_to_send(tmp_path, trace):
    _, filled = fill(tmp_path, LETTERS, trace, size=1)
    part = pickle.loads(pickle.dumps(filled.places.take(np.array([7, 2, 7]))))
    assert len(part.names) == 2
    np.testing.assert_array_equal(part.read("values"), expected(LETTERS[[7, 2, 7]]))


def test_a_full_disk_is_one_line_and_the_run_goes_on_later(tmp_path, trace, monkeypatch):
    fill(tmp_path, LETTERS[:3], trace, namespace={"earlier": 1})
    fill(tmp_path, LETTERS[:3], trace, namespace={"earlier": 2})
    real, room = os.fsync, [1]

    def fsync(descriptor):
        room[0] -= os.fstat(descriptor).st_size > 1000 and not stat.S_ISDIR(os.fstat(descriptor).st_mode)
        if room[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(descriptor)

    monkeypatch.setattr("landmark_retrieval.runtime.store_files.os.fsync", fsync)
    with pytest.raises(
        LandmarkRetrievalError, match=r"no space.*photos are still .*MiB.*prune.*would free"
    ) as caught:
        fill(tmp_path, LETTERS, trace)
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    left = int(re.search(r"(\d+) photos are still", str(caught.value))[1])
    assert left == 8, "one shard of four had room"
    # What the message proposes makes room, and leaves what the run has done.
    assert sum(one.whole for one in prune(Store(str(tmp_path)), keep_last=1)) == 2
    trace.unlink()
    _, filled = fill(tmp_path, LETTERS, trace)
    np.testing.assert_array_equal(values(filled), expected(LETTERS))
    assert len(computed(trace)) == left


RUN = """
import sys
sys.path.insert(0, {tests!r})
from test_store import LETTERS, fill, expected, values
import numpy as np
order = np.random.default_rng(int(sys.argv[1])).permutation(12)
_, filled = fill({root!r}, LETTERS[order], {trace!r}, size=2, sleep=0.05)
np.testing.assert_array_equal(values(filled), expected(LETTERS[order]))
"""


def start(tmp_path, trace, seed=0):
    script = RUN.format(tests=str(Path(__file__).parent), root=str(tmp_path / "store"), trace=str(trace))
    return subprocess.Popen([sys.executable, "-c", script, str(seed)], stderr=subprocess.PIPE, text=True)


def test_killed_and_resumed(tmp_path, trace):
    process = start(tmp_path, trace)
    while len(shards(tmp_path / "store")) < 2:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)
    process.kill()
    process.wait()
    before = computed(trace)
    assert len(before) < 12
    start_again = time.monotonic()
    _, filled = fill(tmp_path / "store", LETTERS, trace, size=2)
    assert time.monotonic() - start_again < claims_module.EXPIRY, "the claim of a dead process blocks no one"
    np.testing.assert_array_equal(values(filled), expected(LETTERS))
    assert len(computed(trace)) - 12 <= 4, "what was not yet stored, two shards at most"


def test_two_runs_at_once_share_the_work(tmp_path, trace):
    runs = [start(tmp_path, trace, seed) for seed in (1, 2)]
    for run in runs:
        _, errors = run.communicate(timeout=120)
        assert run.returncode == 0, errors
    _, filled = fill(tmp_path / "store", LETTERS, trace)
    np.testing.assert_array_equal(values(filled), expected(LETTERS))
    assert len(computed(trace)) == 12
    assert not list((tmp_path / "store").glob("numbers/*/claims/*"))


def test_claims_are_given_way_to_and_end_with_their_owner(tmp_path, monkeypatch):
    folder = Folder(str(tmp_path / "claims"))
    first, second = Claims(folder, "one"), Claims(folder, "two")
    with first.held(), second.held():
        assert first.take(["a", "b"]) == {"a", "b"}
        assert second.take(["b", "c"]) == {"c"}
        first.release(["b"])
        assert second.take(["b"]) == {"b"}
        # One that is no longer renewed holds for nobody, and is cleared away.
        facts = json.loads(folder.read("one.json"))
        folder.write(
            "one.json", json.dumps({**facts, "beat": time.time() - claims_module.EXPIRY - 1}).encode()
        )
        assert second.take(["a"]) == {"a"}
    # A clock far ahead: what counts is that the beat changes.
    monkeypatch.setattr(claims_module, "EXPIRY", 0.1)
    folder.write("far.json", json.dumps({**facts, "beat": time.time() + 9999}).encode())
    watcher = Claims(folder, "w")
    assert "far" in watcher.others()
    time.sleep(0.15)
    assert watcher.others() == {}


def test_prune_is_the_only_thing_that_deletes(tmp_path, trace):
    store = Store(str(tmp_path))
    for number in range(3):
        fill(tmp_path, LETTERS, trace, namespace={"number": number, "none": None})
        used = tmp_path / store.namespace("numbers", {"number": number, "none": None}).name / "used.json"
        used.write_text(json.dumps({"used": time.time() - 10 * 86400 * (3 - number)}))
    found = contents(store)
    assert [one.parameters["number"] for one in found] == [2, 1, 0]
    assert [one.results for one in found] == [12] * 3
    assert describe(found[0].parameters) == "number=2"
    assert len(prune(store, keep_last=2, dry_run=True)) == 1 and len(contents(store)) == 3
    (gone,) = prune(store, older_than=25)
    assert gone.whole and gone.size > 1000
    assert [one.parameters["number"] for one in contents(store)] == [2, 1]
    prune(store, keep_last=1)
    assert [one.parameters["number"] for one in contents(store)] == [2]
    # Of results that a table does not use, a shard is written anew without them.
    used = set(LETTERS[:5].tolist())
    (part,) = prune(store, used_keys=lambda kind, keys: [key.decode() in used for key in keys.tolist()])
    assert (part.results, part.whole) == (7, False)
    trace.unlink()
    _, filled = fill(tmp_path, LETTERS[:6], trace, namespace={"number": 2, "none": None})
    assert computed(trace) == [LETTERS[5]]
    np.testing.assert_array_equal(values(filled), expected(LETTERS[:6]))


def test_a_namespace_in_use_is_not_pruned(tmp_path, trace):
    fill(tmp_path, LETTERS, trace)
    store = Store(str(tmp_path))
    with Claims(store.namespace("numbers", NUMBERS).folder / "claims", "busy").held() as claims:
        claims.take([LETTERS[0]])
        assert prune(store, keep_last=0) == []
    assert len(prune(store, keep_last=0)) == 1 and shards(tmp_path) == []


def test_the_log_counts(tmp_path, trace, caplog):
    with caplog.at_level(logging.INFO):
        fill(tmp_path, LETTERS[:4], trace)
        fill(tmp_path, LETTERS[:6], trace)
    assert "numbers: 4 of 6 photos are in the store, 2 to compute" in caplog.text


def test_shards_are_named_by_their_bytes():
    arrays = {"keys": np.array([b"a"]), "seconds": np.zeros(1, np.float32)}
    assert pack(arrays) == pack(arrays)

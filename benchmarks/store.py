"""The store of photos and pairs: gathering against a plain copy, growing, damage, kills and two runs at once.

    python -m benchmarks.store gather [--rows 1000000] [--width 2048] [--folder DIR]
    python -m benchmarks.store runs [--photos DIR] [--experiments growth kills twice damage] [--kills 20]
                                    [--pairs-of-runs 10] [--folder DIR]

`gather` fills a store with synthetic float16 rows and reads them back in the order of a table, as a run does,
into a `.npy` file; a sequential copy of the same bytes is the yardstick, and both are synced to the disk.

`runs` starts `kedro run` on real photos (the bundled demo by default) with a small network, SIFT and little
pixels, so that a run takes seconds: photos added, removed and renamed, an extractor tried and taken back, the
floor raised, runs killed with SIGKILL at random moments and resumed, two runs at once, and eight kinds of
damage. Every outcome is compared with that of a fresh store.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from landmark_retrieval.descriptors.matrix import gather_results
from landmark_retrieval.io.array_bundle import _write_array
from landmark_retrieval.runtime.sharding import Arrays
from landmark_retrieval.runtime.store import Request, Store

EXPERIMENTS = ("growth", "kills", "twice", "damage")
ROOT = Path(__file__).resolve().parents[1]
SMALL = (
    "gem.max_side=128,dir.max_side=128,gem.backbone.name=tf_efficientnet_lite0,local_features.max_side=320,"
    "local_features.max_keypoints=400,local_features.extractor.name=sift,gem.shard_size=4,dir.shard_size=4,"
    "local_features.shard_size=4,verification.shard_size=4,verification_executor.backend=sequential"
)
"""Parameters of a quick run whose shards are small, so that a kill falls between many of them."""


def _rows(rows: NDArray[np.int64], width: int) -> Arrays:
    seed = np.random.default_rng(int(rows[0]))
    return {"descriptors": seed.integers(0, 2**15, (len(rows), width), np.uint16).view(np.float16)}


def gather(count: int, width: int, folder: Path) -> None:
    """Time gathering in the order of storing and in another one, against a plain copy."""
    keys = np.array([hashlib.sha256(str(row).encode()).hexdigest()[:16] for row in range(count)])
    namespace = Store(str(folder / "store")).namespace("rows", {"width": width})
    request = Request("rows", "photo", lambda rows: partial(_rows, rows, width), 1024)
    namespace.fill(keys, request)
    size = count * width * 2 / 2**30
    orders = {
        "the order of storing": np.arange(count),
        "a random order": np.random.default_rng(0).permutation(count),
    }
    target, copy = folder / "gathered.npy", folder / "copy.npy"
    for name, order in orders.items():
        for attempt in range(2):
            start = time.perf_counter()
            places = namespace.look(keys[order]).places
            found = time.perf_counter() - start
            _write_array(target, gather_results(places, "descriptors", width, np.float16))
            _sync(target)
            gathered = time.perf_counter() - start
            start = time.perf_counter()
            with target.open("rb") as source, copy.open("wb") as destination:
                shutil.copyfileobj(source, destination, 1 << 24)
            _sync(copy)
            copied = time.perf_counter() - start
            print(
                f"{name}, attempt {attempt + 1}: {count} x {width} float16, {size:.1f} GiB: gathered in "
                f"{gathered:.1f} s ({found:.1f} s of it finding), copied in {copied:.1f} s: "
                f"{copied / gathered:.2f} of a copy's speed"
            )


def _sync(file: Path) -> None:
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())


class Project:
    """A project folder with photos of its own, in which runs are started."""

    def __init__(self, root: Path, table: pd.DataFrame, photos: Path) -> None:
        self.root = root
        shutil.copytree(ROOT / "conf", root / "conf", ignore=shutil.ignore_patterns("local"))
        (root / "conf" / "local").mkdir()
        (root / "src").mkdir()
        shutil.copy(ROOT / "pyproject.toml", root)
        self.source = photos
        self.photos = root / "photos"
        self.show(table)

    def show(self, table: pd.DataFrame, rename: Callable[[str], str] = str) -> None:
        """Let the photos of a table, and no others, be the collection."""
        shutil.rmtree(self.photos, ignore_errors=True)
        (self.photos / "images").mkdir(parents=True)
        table = table.copy()
        for row, path in table["path"].items():
            name = rename(Path(path).name)
            shutil.copy(self.source / path, self.photos / "images" / name)
            table.loc[row, "path"] = f"images/{name}"
        table.to_csv(self.photos / "images.csv", index=False)

    def command(self, options: str = "") -> list[str]:
        """Return the command of a run."""
        parameters = f"image_root=photos,{SMALL}{',' + options if options else ''}"
        return [sys.executable, "-m", "kedro", "run", "--env", "folder", "--params", parameters]

    def start(self, options: str = "") -> subprocess.Popen[str]:
        """Start a run."""
        environment = {
            **os.environ,
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.root}/mlflow-{random.random()}.db",
        }
        return subprocess.Popen(
            self.command(options),
            cwd=self.root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, options: str = "") -> str:
        """Run to the end; return the log."""
        process = self.start(options)
        log, _ = process.communicate()
        if process.returncode:
            raise RuntimeError(log[-3000:])
        return log

    def results(self) -> dict[str, str]:
        """Return digests of all rankings, metrics and arrays of the run."""
        found = {}
        for file in sorted((self.root / "data").rglob("*")):
            kept = file.suffix == ".npy" or file.name in ("metrics.json", "submission.csv")
            if kept and "store" not in file.parts:
                name = re.sub(r"photos-[0-9a-f]{6}", "SET", str(file.relative_to(self.root)))
                found[name] = hashlib.sha256(file.read_bytes()).hexdigest()
        return found

    def forget(self) -> None:
        """Delete all that was made."""
        shutil.rmtree(self.root / "data", ignore_errors=True)


def work(log: str) -> str:
    """Return what a run computed, in its own words."""
    lines = re.findall(r"INFO +(.* of .* were computed|nothing to do.*)", log)
    return "; ".join(lines)


def network_and_ransac(log: str) -> tuple[int, int]:
    """Return how many photos met a network and how many pairs were verified."""
    photos = re.findall(r"INFO +(?:gem|rmac) descriptors \([^)]*\): (\d+) of \d+ were computed", log)
    photos += re.findall(r"INFO +local features \([^)]*\): (\d+) of \d+ were computed", log)
    pairs = re.findall(r"INFO +spatial verification: (\d+) of \d+ were computed", log)
    return sum(map(int, photos)), sum(map(int, pairs))


def fresh(
    root: Path, table: pd.DataFrame, photos: Path, options: str = "", rename: Callable[[str], str] = str
) -> Project:
    """Return a project in which one run was made from nothing."""
    project = Project(root, table, photos)
    project.show(table, rename)
    project.run(options)
    return project


def runs(photos: Path, experiments: Sequence[str], kills: int, twice: int, folder: Path) -> None:
    """Make experiments on runs (`EXPERIMENTS`)."""
    table = pd.read_csv(photos / "images.csv", dtype=str, keep_default_na=False)
    start = time.perf_counter()
    whole = fresh(folder / "whole", table, photos)
    seconds = time.perf_counter() - start
    print(f"{len(table)} photos, a run from nothing {seconds:.0f} s")
    if "growth" in experiments:
        grown(folder, table, photos, whole)
    project = Project(folder / "project", table, photos)
    if "kills" in experiments:
        equal = sum(killed_and_resumed(project, whole, seconds) for _ in range(kills))
        print(f"killed at a random moment and resumed: {equal} of {kills} equal")
    if "twice" in experiments:
        print(f"two runs at once: {sum(two_at_once(project, whole) for _ in range(twice))} of {twice} right")
    if "damage" in experiments:
        project.run()
        damaged(project, whole)


def compare(what: str, project: Project, log: str, reference: Project) -> None:
    """Say what a run computed, and whether its results are those of a fresh store."""
    ours, theirs = project.results(), reference.results()
    different = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    verdict = f"{len(ours)} files equal to a fresh store" if not different else f"DIFFERENT: {different[:5]}"
    photos, pairs = network_and_ransac(log)
    print(f"{what}: photos {photos}, pairs {pairs}; {verdict}")


def grown(folder: Path, table: pd.DataFrame, photos: Path, whole: Project) -> None:
    """Add, remove and rename photos, try an extractor and take it back, raise the floor."""
    changed = table.index[table["split"] == "index"][: min(20, (table["split"] == "index").sum() // 2)]
    project = Project(folder / "growing", table.drop(changed), photos)
    print(f"{len(changed)} photos are added, removed and renamed")
    few = fresh(folder / "few", table.drop(changed), photos)
    compare("without them, first run", project, project.run(), few)
    project.show(table)
    compare("with them", project, project.run(), whole)
    pairs = pd.read_parquet(next(project.root.glob("data/05_model_input/*/verified_pairs.parquet")))
    images = pd.read_csv(next(project.root.glob("data/02_intermediate/*/image_table.csv")), dtype=str)
    rows = np.flatnonzero(images["image_id"].isin(set(table.loc[changed, "image_id"])))
    touched = pairs["row_a"].isin(rows) | pairs["row_b"].isin(rows)
    print(f"    of all {len(pairs)} pairs of the run {int(touched.sum())} hold an added photo")
    compare("nothing changed", project, project.run(), whole)
    project.show(table.drop(changed))
    compare("without them again", project, project.run(), few)
    names = {Path(path).name for path in table.loc[changed, "path"]}

    def renamed(name: str) -> str:
        return f"renamed_{name}" if name in names else name

    expected = fresh(folder / "renamed", table, photos, rename=renamed)
    project.show(table, rename=renamed)
    compare("renamed", project, project.run(), expected)
    project.show(table)
    compare("names taken back", project, project.run(), whole)
    log = project.run("local_features.extractor.name=xfeat")
    print("another extractor: photos {}, pairs {}".format(*network_and_ransac(log)))
    compare("the first extractor again", project, project.run(), whole)
    floor = fresh(folder / "floor", table, photos, "verification.min_inliers=20")
    compare("min_inliers 12 -> 20", project, project.run("verification.min_inliers=20"), floor)


def killed_and_resumed(project: Project, expected: Project, seconds: float) -> bool:
    project.forget()
    process = project.start()
    time.sleep(random.uniform(0.3, 0.95) * seconds)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    project.run()
    return project.results() == expected.results()


def two_at_once(project: Project, expected: Project) -> bool:
    """Two runs in one store, of one collection with two data folders' worth of artifacts apart."""
    project.forget()
    first, second = project.start(), project.start("egt.t=0.6")
    logs = [process.communicate()[0] for process in (first, second)]
    if first.returncode or second.returncode:
        print("\n".join(log[-1500:] for log in logs))
        return False
    photos = [network_and_ransac(log) for log in logs]
    project.run()
    print(f"    photos and pairs of each: {photos}")
    return project.results() == expected.results()


def damaged(project: Project, expected: Project) -> None:
    def zero(content: bytes) -> bytes:
        at = len(content) // 3
        return content[:at] + bytes(64) + content[at + 64 :]

    kinds: dict[str, Callable[[bytes], bytes | None]] = {
        "cut at a random byte": lambda content: content[: random.randrange(1, len(content))],
        "cut by one byte": lambda content: content[:-1],
        "empty": lambda content: b"",
        "64 bytes zeroed": zero,
        "all zero": lambda content: bytes(len(content)),
        "one bit": lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:],
        "longer": lambda content: content + b"x",
        "deleted": lambda content: None,
    }
    for name, change in kinds.items():
        shards = [
            file
            for kind in ("pooled_*", "local_features", "pairs")
            for file in project.root.glob(f"data/03_primary/store/{kind}/*/*.npz")
            if file.name != "index.npz"
        ]
        victim = random.choice(shards)
        held = len(np.load(victim)["keys"])
        content = change(victim.read_bytes())
        victim.unlink() if content is None else victim.write_bytes(content)
        log = project.run()
        named = sum(victim.name in line for line in log.splitlines())
        computed = sum(network_and_ransac(log))
        healed = project.results() == expected.results()
        print(f"damage, {name}: named in {named} lines, {computed} of {held} computed again, equal: {healed}")


@contextlib.contextmanager
def working(folder: Path | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=folder) as made:
        yield Path(made)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("gather", "runs"))
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--photos", type=Path, default=ROOT / "data" / "01_raw" / "demo")
    parser.add_argument("--experiments", nargs="+", choices=EXPERIMENTS, default=EXPERIMENTS)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--pairs-of-runs", type=int, default=10)
    parser.add_argument("--folder", type=Path, help="where to work, a temporary folder by default")
    arguments = parser.parse_args()
    with working(arguments.folder) as folder:
        if arguments.what == "gather":
            gather(arguments.rows, arguments.width, folder)
        else:
            photos = arguments.photos.resolve()
            runs(photos, arguments.experiments, arguments.kills, arguments.pairs_of_runs, folder)


if __name__ == "__main__":
    main()

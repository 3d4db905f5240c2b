"""Look whether a run ever gives another result because of one bad artifact.

In a finished project one artifact, chosen by chance, is cut, zeroed, emptied, deleted, put in the place of
that of another data set, or of that of an earlier run with other parameters (with the record beside it or
without). Then `kedro run` runs one of its pipelines, or all. Either every artifact that it made is equal to
that of the finished project, or it stops and names the artifact; anything else is a fault.

    python -m benchmarks.catalog_fuzz --trials 100

draws the photos of the demo into a small project of its own and describes them by SIFT and small networks.
"""

from __future__ import annotations

import argparse
import collections
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from click.testing import CliRunner

from landmark_retrieval.runtime.records import read_record, record_file

ROOT = Path(__file__).resolve().parents[1]
PIPELINES = (
    "features",
    "knn_graph",
    "spatial_verification",
    "egt",
    "evaluation",
    "collection",
    "__default__",
)
DIFFER = ("08_reporting", "mlflow_run", "audit", "met_files")
"""Parts of the paths of artifacts that hold times."""
SMALL = {
    "backbone": {"name": "tf_efficientnet_lite0", "weights": "package", "stage": -1},
    "max_side": 128,
    "scales": [1.0],
}
PARAMETERS = {
    "gem": {**SMALL, "pooling": {"kind": "gem"}},
    "dir": {**SMALL, "pooling": {"kind": "rmac", "power": None}},
    "local_features": {"extractor": {"name": "sift"}, "max_side": 256, "max_keypoints": 200},
    "verification_executor": {"backend": "sequential"},
}


@dataclass(frozen=True)
class Trial:
    """One bad artifact and the run that met it.

    Attributes:
        place: of the artifact below the project.
        damage: what was done to it.
        pipeline: that ran.
        outcome: `right`, `named`, or in words what was wrong.
    """

    place: Path
    damage: str
    pipeline: str
    outcome: str

    @property
    def is_fault(self) -> bool:
        """Whether the run did neither of the two things that it may."""
        return self.outcome not in ("right", "named")


def artifacts(project: Path) -> list[Path]:
    """Return the places of all artifacts with a record, below a project."""
    records = sorted((project / "data").glob("0[2-8]*/**/.*.record.json"))
    places = [file.with_name(file.name.removesuffix(".record.json")[1:]) for file in records]
    return [place.relative_to(project) for place in places if place.exists()]


def digests(project: Path) -> dict[Path, str]:
    """Return what the artifacts hold, but for those with times in them."""
    found = {}
    for place in artifacts(project):
        record = read_record(project / place)
        if record is not None and not any(part in str(place) for part in DIFFER):
            found[place] = record.digest
    return found


def a_file(place: Path, rng: random.Random) -> Path:
    """Return the file of an artifact, or one of its files."""
    return rng.choice(sorted(file for file in place.iterdir() if file.is_file())) if place.is_dir() else place


def cut(file: Path) -> None:
    """Leave the first half."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def cut_at_a_line(file: Path) -> None:
    """Leave out the last line of a text, the last bytes of anything else."""
    content = file.read_bytes()
    end = content.rstrip(b"\n").rfind(b"\n") + 1
    file.write_bytes(content[:end] if file.suffix in (".csv", ".json", ".txt") else content[:-8])


def zero(file: Path) -> None:
    """Write zeros, as after a power cut."""
    file.write_bytes(bytes(file.stat().st_size))


def empty(file: Path) -> None:
    """Leave nothing in the file."""
    file.write_bytes(b"")


def flip(file: Path) -> None:
    """Change one bit in the middle."""
    content = bytearray(file.read_bytes())
    if content:
        content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


DAMAGES: dict[str, Callable[[Path], None]] = {
    "cut": cut,
    "cut at a line": cut_at_a_line,
    "zeroed": zero,
    "emptied": empty,
    "one bit": flip,
    "deleted": Path.unlink,
}
REPLACED = ("of another data set", "of another data set, with record", "older", "older, with record")


def replace(place: Path, by: Path, with_record: bool) -> None:
    """Put another artifact in the place of one."""
    if place.is_dir():
        shutil.rmtree(place)
        shutil.copytree(by, place)
    else:
        shutil.copy(by, place)
    if with_record:
        shutil.copy(record_file(by), record_file(place))


def try_one(finished: Path, other: Path, older: Path, work: Path, rng: random.Random) -> Trial:
    """Spoil one artifact of a finished project and run.

    Args:
        finished: the project as it was finished, left as it is.
        other: a finished project with other photos in a data set of the same name.
        older: the project as it was after a run with other parameters.
        work: the project itself, brought back to its finished state first (some artifacts hold paths).
        rng: chooses artifact, damage and pipeline.
    """
    shutil.rmtree(work / "data")
    shutil.copytree(finished / "data", work / "data", symlinks=True)
    place, pipeline = rng.choice(artifacts(finished)), rng.choice(PIPELINES)
    sources = {name: (older if name.startswith("older") else other) / place for name in REPLACED}
    damage = rng.choice([*DAMAGES, *(name for name, source in sources.items() if source.exists())])
    if damage in DAMAGES:
        file = a_file(work / place, rng)
        DAMAGES[damage](file)
    else:
        replace(work / place, sources[damage], damage.endswith("record"))
    code, output = run(work, [] if pipeline == "__default__" else ["--pipelines", pipeline])
    return Trial(place, damage, pipeline, judge(code, output, place, digests(finished), digests(work)))


def judge(code: int, output: str, place: Path, before: dict[Path, str], after: dict[Path, str]) -> str:
    """Say what a run did: `right`, `named`, or what was wrong."""
    if code:
        line = next((line for line in output.splitlines() if line.startswith("Error: ")), "")
        named = place.name.split(".")[0] in line or str(place) in line
        return "named" if named else f"stopped without a name: {line or output[-300:]}"
    changed = [
        str(one) for one, digest in after.items() if before.get(one) not in (None, digest) and one != place
    ]
    return "right" if not changed else f"another result: {', '.join(changed[:3])}"


def run(project: Path, arguments: list[str]) -> tuple[int, str]:
    """Run `kedro run` in this process; return its exit status and what it printed."""
    import mlflow
    from kedro.framework.startup import bootstrap_project

    from landmark_retrieval.cli import cli

    with entered(project):
        bootstrap_project(project)
        result = CliRunner().invoke(cli, ["run", *arguments])
        while mlflow.active_run():
            mlflow.end_run()
    unexpected = result.exception is not None and not isinstance(result.exception, SystemExit)
    return result.exit_code, result.output + (f"\n{result.exception!r}" if unexpected else "")


@contextmanager
def entered(project: Path) -> Iterator[None]:
    """Work in a project with an MLflow store of its own."""
    import mlflow

    before, folder = dict(os.environ), Path.cwd()
    os.environ |= {"MLFLOW_TRACKING_URI": f"sqlite:///{project}/mlflow.db", "KEDRO_DISABLE_TELEMETRY": "1"}
    os.chdir(project)
    mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
    try:
        yield
    finally:
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(before)


def make_project(folder: Path, leave_out: int = 0, **parameters: object) -> Path:
    """Make a small project of the demo's photos and run it.

    Args:
        folder: where.
        leave_out: photos of the index that are left out.
        parameters: groups that differ.
    """
    import pandas as pd

    photos = folder / "photos"
    if not folder.exists():
        shutil.copytree(ROOT / "conf", folder / "conf", ignore=shutil.ignore_patterns("local"))
        (folder / "conf" / "local").mkdir()
        (folder / "src").mkdir()
        shutil.copy(ROOT / "pyproject.toml", folder)
        shutil.copytree(ROOT / "data" / "01_raw" / "demo", photos)
        table = pd.read_csv(photos / "images.csv", dtype=str, keep_default_na=False)
        index = table.index[table["split"] == "index"][:leave_out]
        table.drop(index).to_csv(photos / "images.csv", index=False)
        globals_file = folder / "conf" / "local" / "globals.yml"
        globals_file.write_text(
            yaml.safe_dump({"data_set": "fuzz", "image_root": "photos"}), encoding="utf-8"
        )
    local = folder / "conf" / "local" / "parameters.yml"
    local.write_text(yaml.safe_dump({**PARAMETERS, **parameters}), encoding="utf-8")
    store = f"sqlite:///{folder}/mlflow.db"
    subprocess.run(
        [sys.executable, "-m", "kedro", "run"],
        cwd=folder,
        env={**os.environ, "MLFLOW_TRACKING_URI": store, "KEDRO_DISABLE_TELEMETRY": "1"},
        check=True,
    )
    return folder


def main() -> None:
    """Make the projects, try, and print what happened."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        work = make_project(folder / "project", ranking={"length": 20}, verification={"candidates": 5})
        shutil.copytree(work, folder / "older")
        make_project(work)
        finished = Path(shutil.copytree(work, folder / "finished", symlinks=True))
        other = make_project(folder / "other", leave_out=5)
        trials = []
        for number in range(options.trials):
            trial = try_one(finished, other, folder / "older", work, rng)
            trials.append(trial)
            print(
                f"{number + 1:4} {trial.pipeline:<22} {trial.damage:<32} {trial.place}: {trial.outcome}",
                flush=True,
            )
    outcomes = collections.Counter("FAULT" if trial.is_fault else trial.outcome for trial in trials)
    print(", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items())))
    sys.exit(any(trial.is_fault for trial in trials))


if __name__ == "__main__":
    main()

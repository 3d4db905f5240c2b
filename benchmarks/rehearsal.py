"""The whole environment `gldv2` from files to the ablation on synthetic data: seconds and bytes a stage.

    python -m benchmarks.rehearsal [--scale 200] [--side 128] [--folder DIR]

Pictures are drawings, so scores say nothing about photographs. What is real are file formats, proportions
(queries, index, train, labels and their sizes, Ignored rows) and every step of the run; networks, images and
local features are small (`SMALL`). The project's `conf` is copied to the folder, so nothing here is touched.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from benchmarks.synthetic_gldv2 import SyntheticConfig, write_synthetic

ROOT = Path(__file__).resolve().parents[1]

DESCRIPTOR = {
    "backbone": {"name": "tf_efficientnet_lite0", "weights": "package"},
    "max_side": 64,
    "scales": [1.0],
    "batch_size": 32,
    "shard_size": 1024,
}
SMALL: dict[str, Any] = {
    "gem": {**DESCRIPTOR, "pooling": {"kind": "gem"}},
    "dir": {**DESCRIPTOR, "pooling": {"kind": "rmac", "power": None}},
    "local_features": {
        "extractor": {"name": "sift"},
        "max_side": 128,
        "max_keypoints": 80,
        "shard_size": 1024,
    },
}
"""Replaces `conf/gldv2/parameters_features.yml`; everything else is as the environment has it."""


def prepare(folder: Path) -> None:
    """Copy the configuration and shrink what the pictures do not need."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(ROOT / "conf", folder / "conf", dirs_exist_ok=True)
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "src").mkdir(exist_ok=True)
    text = yaml.safe_dump(SMALL)
    (folder / "conf" / "gldv2" / "parameters_features.yml").write_text(text, encoding="utf-8")


def size_of(folder: Path) -> float:
    """Return the MiB of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 2**20


def main() -> None:
    """Make the data set, run all pipelines, print what each node took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", type=float, default=200, help="published numbers are divided by this")
    parser.add_argument("--side", type=int, default=128, help="long side of the pictures in pixels")
    parser.add_argument("--folder", type=Path, help="where to work and to leave everything; else temporary")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).resolve()
        prepare(folder)
        start = time.perf_counter()
        plan = write_synthetic(folder / "synthetic", SyntheticConfig(scale=options.scale, side=options.side))
        made = time.perf_counter() - start
        counts = plan.images["split"].value_counts().to_dict()
        print(f"SYNTHETIC Google Landmarks v2 at 1/{options.scale:g}: {counts}, {made:.0f} s to draw")
        command = [sys.executable, "-m", "kedro", "run", "--env", "gldv2", "--params", "data_root=synthetic"]
        store = f"sqlite:///{folder / 'mlflow.db'}"
        environment = {**os.environ, "MLFLOW_TRACKING_URI": store, "KEDRO_DISABLE_TELEMETRY": "1"}
        start = time.perf_counter()
        subprocess.run(command, cwd=folder, env=environment, check=True)
        print(f"\nwhole run: {time.perf_counter() - start:.0f} s")
        records = [
            json.loads(file.read_text(encoding="utf-8"))["record"] for file in records_in(folder / "data")
        ]
        nodes = {record["node"]: record["seconds"] for record in records}
        for node, seconds in sorted(nodes.items(), key=lambda item: -item[1])[:12]:
            print(f"  {seconds:8.1f} s  {node}")
        for layer in sorted((folder / "data").iterdir()):
            print(f"  {size_of(layer):8.1f} MiB  {layer.name}")
        print((folder / "data" / "08_reporting" / "ablation.txt").read_text(encoding="utf-8"))


def records_in(folder: Path) -> list[Path]:
    """Return the records beside all artifacts."""
    return list(folder.glob("**/.*.record.json"))


if __name__ == "__main__":
    main()

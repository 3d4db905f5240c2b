"""Run the benchmarks that need no data set one after the other: `python -m benchmarks`, or `make bench`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FEATURES = Path("data/03_primary/demo/local_features")

BENCHMARKS = {
    "egt": ["--million"],
    "knn": [],
    "verification": [str(FEATURES)],
    "extraction": [],
    "scale": [],
}
"""Names and arguments. The other scripts want a data set or more time."""


def main() -> None:
    """Run each in a process of its own, so that none inherits another's memory."""
    for name, arguments in BENCHMARKS.items():
        print(f"\n== {name}", flush=True)
        if name == "verification" and not FEATURES.exists():
            print("needs the demo's local features: run `make demo` first")
            continue
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *arguments], check=True)


if __name__ == "__main__":
    main()

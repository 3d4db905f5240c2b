"""How many cores this process may use; imports nothing, as it is asked before any library starts threads."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
"""Where Linux shows control groups, by which containers and schedulers limit processes."""


def allowed_cores(cgroups: Path = CGROUPS, of_process: Path = Path("/proc/self/cgroup")) -> int:
    """Return the cores that this process may use: those of its affinity, and no more than its quota of time.

    Args:
        cgroups: folder of the control groups.
        of_process: file that names the group of this process.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, _quota(cgroups, of_process))))


def _quota(cgroups: Path, of_process: Path) -> float:
    """Return the cores' worth of time that the groups of this process get, infinity without a limit."""
    # Version 2 has one line "0::/path". In a container the path may be one of the host, so that only the top
    # folder is there. Version 1 keeps quota and period in two files below `cpu`.
    lines = (_text(of_process) or "").splitlines()
    own = next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "/")
    group = cgroups / own.strip("/")
    least = math.inf
    for folder in (group, *group.parents):
        if not folder.is_relative_to(cgroups):
            break
        least = min(least, _share(_text(folder / "cpu.max")))
    old = [_text(cgroups / "cpu" / f"cpu.cfs_{name}_us") for name in ("quota", "period")]
    return min(least, _share(" ".join(filter(None, old))))


def _share(text: str | None) -> float:
    """Return quota over period of a text such as `150000 100000`; `max` and -1 are no limit."""
    words = (text or "").split()
    try:
        quota, period = (float(word) for word in words)
    except ValueError:
        return math.inf
    return quota / period if quota > 0 and period > 0 else math.inf


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="ascii")
    except (OSError, ValueError):
        return None

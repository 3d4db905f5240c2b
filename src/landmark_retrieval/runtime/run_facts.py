"""What a run was made with: commit, versions, machine."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    "kedro",
    "mlflow",
    "torch",
    "timm",
    "faiss-gpu",
    "faiss-cpu",
    "numba",
    "numpy",
    "pandas",
    "pydegensac",
)
"""Packages whose versions results may depend on."""


def run_facts(project: Path) -> dict[str, str]:
    """Return names and values, as text, of what a run depends on besides photos and parameters.

    Args:
        project: root of the project; without git, or outside a repository, the commit is "unknown".
    """
    facts = {
        "commit": _commit(project),
        "landmark_retrieval": _version("landmark_retrieval"),
        "python": platform.python_version(),
    }
    facts |= {name: found for name in PACKAGES if (found := _version(name))}
    return facts | {
        "platform": f"{platform.system()} {platform.machine()}",
        "cores": str(os.cpu_count()),
        "gpu": _gpus(),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _gpus() -> str:
    import torch

    if not torch.cuda.is_available():
        return "none"
    return ", ".join(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count()))


def _commit(project: Path) -> str:
    try:
        commit = _git(project, "rev-parse", "HEAD")
        changed = _git(project, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return f"{commit[:12]} with changes" if changed else commit[:12]


def _git(project: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(project), *arguments], check=True, capture_output=True, text=True, timeout=20
    )
    return done.stdout.strip()

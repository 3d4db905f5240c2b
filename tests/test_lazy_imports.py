"""What a command does not need it does not load: each of these libraries takes a second or more."""

from __future__ import annotations

import subprocess
import sys

import pytest

SLOW = {"torch", "timm", "kornia", "mlflow", "sklearn", "matplotlib", "plotly", "pandas", "numpy", "kedro"}


@pytest.mark.parametrize(
    ("modules", "allowed"),
    [
        ("landmark_retrieval", set()),
        # The commands' own modules; Kedro reads configuration with pandas' help (`collection.naming`).
        ("landmark_retrieval.cli", {"kedro", "pandas", "numpy"}),
        # What serves and searches; timm comes with the networks, when an index is opened.
        ("landmark_retrieval.retrieval, landmark_retrieval.serving.server", {"torch", "pandas", "numpy"}),
    ],
)
def test_imports_load_nothing_that_is_slow_and_not_needed(modules: str, allowed: set[str]) -> None:
    code = f"import sys, {modules}; print(*(name for name in {sorted(SLOW)} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= allowed

from __future__ import annotations

import os
import subprocess
import sys

SCRIPT = """
import landmark_retrieval
from mlflow.telemetry.utils import is_telemetry_disabled
assert is_telemetry_disabled()
from pathlib import Path
from kedro_telemetry.plugin import _check_for_telemetry_consent
assert _check_for_telemetry_consent(Path("nowhere")) is False
"""


def test_the_package_switches_usage_statistics_off() -> None:
    # Without the variables that the Makefile and pytest set.
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    if "PYTHONPATH" in os.environ:
        environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
    subprocess.run([sys.executable, "-c", SCRIPT], env=environment, check=True, timeout=120)

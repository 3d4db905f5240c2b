"""What becomes of the MLflow run of a `kedro run` that is stopped from outside."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


@contextmanager
def killed_runs_marked() -> Iterator[None]:
    """Mark the active MLflow run as KILLED when the process is interrupted or terminated.

    MLflow itself calls such a run finished. One that has no time left (SIGKILL) is marked by the next start.
    """
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, _leave) if in_main else None
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        if "mlflow" in sys.modules:
            from landmark_retrieval.io.tracking import end_as_killed

            end_as_killed()
        raise
    finally:
        if in_main:
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _leave(number: int, _: FrameType | None) -> NoReturn:
    sys.exit(128 + number)

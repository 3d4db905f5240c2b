"""Certificates of runs: digests of everything that goes in and comes out, in the order of the stages."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

FORMAT = 1
"""Of the file."""

INPUTS = ("commit", "lock", "machine", "seed", "parameters", "photos", "table", "weights")
"""What goes into a run, in the order in which differences are told."""

_BLOCK = 1 << 16


def digest_of(value: Any) -> str:
    """Return the SHA-256 of an artifact's content, 64 hexadecimal digits, whatever file it came from.

    Args:
        value: array, data frame, plain JSON values, or a dataclass of these, nested at will. Memory-mapped
            arrays are read in blocks.
    """
    total = hashlib.sha256()
    for piece in _pieces(value):
        total.update(piece)
    return total.hexdigest()


def certificate(
    inputs: Mapping[str, Any],
    stages: Iterable[tuple[str, Any]],
    metrics: Mapping[str, Mapping[str, float]],
    command: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the certificate of a run.

    Args:
        inputs: values by the names of `INPUTS`.
        stages: name and content of every artifact, in the order in which a run makes them.
        metrics: of every variant.
        command: environment and runtime parameters, with which the run can be repeated.
    """
    return {
        "format": FORMAT,
        "command": dict(command),
        "inputs": {name: inputs[name] for name in INPUTS if name in inputs},
        "stages": [{"artifact": name, "sha256": digest_of(value)} for name, value in stages],
        "metrics": {variant: dict(values) for variant, values in metrics.items()},
    }


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Return what differs between two certificates, a line each; nothing where they agree.

    Args:
        first: certificate that was kept.
        second: of the repetition.
    """
    lines = [f"input {line}" for line in _different_values(first["inputs"], second["inputs"])]
    after = {stage["artifact"]: stage["sha256"] for stage in second["stages"]}
    apart = [
        stage["artifact"]
        for stage in first["stages"]
        if after.get(stage["artifact"], "not made") != stage["sha256"]
    ]
    more = set(after) - {stage["artifact"] for stage in first["stages"]}
    if apart:
        what = "is not made" if apart[0] not in after else "differs"
        lines.append(f"the runs part at '{apart[0]}', which {what}; {len(apart) - 1} later artifacts differ")
    if more:
        lines.append(f"only the second run makes {', '.join(sorted(more))}")
    lines += [f"metric {line}" for line in _different_values(first["metrics"], second["metrics"])]
    return lines


def _different_values(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[str]:
    old, new = dict(_flat(first)), dict(_flat(second))
    for name in [*old, *(name for name in new if name not in old)]:
        before, after = old.get(name, "(none)"), new.get(name, "(none)")
        if before != after and not (before != before and after != after):  # NaN equals NaN here
            yield f"{name}: {before} → {after}"


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _pieces(value: Any) -> Iterator[bytes]:
    """Yield bytes that are equal for equal content, with names and types between them."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield f"<{field.name}>".encode()
            yield from _pieces(getattr(value, field.name))
    elif isinstance(value, pd.DataFrame):
        yield value.to_csv(index=False, float_format="%.17g").encode()
    elif isinstance(value, np.ndarray):
        kind = "str" if value.dtype.kind in "UO" else value.dtype.str
        yield f"<{kind} {value.shape}>".encode()
        for start in range(0, len(value), _BLOCK) if value.ndim else ():
            block = value[start : start + _BLOCK]
            yield "\0".join(map(str, block.ravel())).encode() if kind == "str" else block.tobytes()
        if not value.ndim:
            yield value.tobytes()
    else:
        yield json.dumps(value, sort_keys=True, default=str).encode()

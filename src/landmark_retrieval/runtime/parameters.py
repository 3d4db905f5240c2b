"""Nested parameters by dotted names, and what differs between two sets of them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any


def changed_parameters(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return what differs between two sets of nested parameters, as `ransac.threshold 4.0 → 3.0`.

    Args:
        before: parameters as read from a manifest; empty for "not known".
        after: parameters now.
    """
    if not before:
        return []
    old, new = (dict(flat(json.loads(json.dumps(values, default=str)))) for values in (before, after))
    absent = "(none)"
    return [
        f"{name} {old.get(name, absent)} → {new.get(name, absent)}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name, absent) != new.get(name, absent)
    ]


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested parameters as (dotted name, value)."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value

"""Validated configuration: every parameter group is a frozen pydantic model that refuses unknown names."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from landmark_retrieval.errors import LandmarkRetrievalError


class Configuration(BaseModel):
    """Base of all parameter models: immutable, hashable, and loud about misspelt options."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _name_unknown_options(cls, values: Any) -> Any:
        if isinstance(values, dict):
            for name in values:
                if name not in cls.model_fields:
                    raise LandmarkRetrievalError(unknown_option(str(name), list(cls.model_fields)))
        return values

    def fingerprint(self) -> str:
        """Return a hexadecimal digest of all values, equal for equal configurations."""
        return digest(self.model_dump(mode="json"))


def unknown_option(name: str, options: Sequence[str], kind: str = "option") -> str:
    """Return the message for a misspelt name: the closest existing one, and all that exist.

    Args:
        name: as it was given.
        options: names that exist.
        kind: what the names are of, in the singular.
    """
    close = difflib.get_close_matches(name, options, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"unknown {kind} '{name}': {hint}{kind}s here are {', '.join(options)}"


def digest(*parts: Any) -> str:
    """Return a 16-character hexadecimal SHA-256 digest of JSON-serialisable parts."""
    canonical = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]

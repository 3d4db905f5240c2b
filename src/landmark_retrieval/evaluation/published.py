"""Figures that others published for a data set, to be shown beside measured ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import pandas as pd
from pydantic import Field

from landmark_retrieval.configuration import Configuration


class PublishedResult(Configuration):
    """One published result.

    Attributes:
        name: whose it is.
        public: mAP@100 on the public queries, None where it was not published.
        private: mAP@100 on the private queries, likewise.
    """

    name: str
    public: float | None = Field(default=None, ge=0, le=1)
    private: float | None = Field(default=None, ge=0, le=1)


class PublishedConfig(Configuration):
    """Published results of a data set.

    Attributes:
        source: where they were published, in words.
        results: none by default: most data sets have none that could be compared.
    """

    source: str = ""
    results: tuple[PublishedResult, ...] = ()

    def rows(self) -> list[tuple[str, float | None, float | None]]:
        """Return name, public and private mAP@100 of each result."""
        return [(result.name, result.public, result.private) for result in self.results]

    def told(self, ablation: pd.DataFrame) -> str:
        """Return the source, and how much each row adds to the one before beside the measured rows.

        Args:
            ablation: as of `ablation_table`.
        """
        measured = {str(row["variant"]): row for row in ablation.to_dict("records")}
        return f"{self.source} {self.growth(measured)}".strip()

    def growth(self, measured: Mapping[str, Mapping[Any, Any]] | None = None) -> str:
        """Return how much each row adds to the one before, in relative terms, theirs beside ours.

        Absolute mAP depends on networks and photos; what a stage adds is more nearly comparable.

        Args:
            measured: per variant, metrics as of `gld.evaluate_variant`; variants that are not published are
                left out.

        Returns:
            A part for each usage, `private: +12.8 % +16.7 % +20.4 %, here +9.1 % ...`; empty
            without two published rows.
        """
        measured = measured or {}
        rows = [result for result in self.results if result.name in measured or not measured]
        sentences = []
        for part in ("public", "private"):
            theirs = relative_gains([getattr(row, part) for row in rows])
            if not theirs:
                continue
            metrics = [measured.get(row.name, {}) for row in rows]
            key = f"mAP_at_100_{part}"
            ours = relative_gains([values.get(key, values.get("mAP_at_100")) for values in metrics])
            here = f", here {' '.join(ours)}" if ours else ""
            sentences.append(f"{part}: {' '.join(theirs)}{here}")
        return f"From row to row: {'; '.join(sentences)}." if sentences else ""


def relative_gains(values: Sequence[float | None]) -> list[str]:
    """Return by how much each value exceeds the one before, in percent of it; nothing where one is missing.

    Args:
        values: mAP of consecutive rows.
    """
    known = [value for value in values if value is not None and value == value]
    if len(known) < max(2, len(values)) or min(known[:-1]) <= 0:
        return []
    return [f"{100 * (after / before - 1):+.1f} %" for before, after in pairwise(known)]

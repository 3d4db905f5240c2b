"""The report: one self-contained page that shows, for some queries, what every variant found, and why."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from landmark_retrieval.configuration import Configuration
from landmark_retrieval.evaluation.ablation import METRICS, NOT_MEASURED, TITLES
from landmark_retrieval.graph.explain import Step
from landmark_retrieval.reporting.gains import Gain
from landmark_retrieval.reporting.matches import VerifiedMatch
from landmark_retrieval.reporting.templating import template
from landmark_retrieval.reporting.thumbnails import placeholder, thumbnails
from landmark_retrieval.retrieval.variants import stage_rows, stages_in_words

__all__ = [
    "Chain",
    "QueryPage",
    "ReportConfig",
    "ReportContent",
    "VariantResults",
    "change_counts",
    "choose_queries",
    "extremes",
    "render_report",
    "thumbnails",
]

CHANGES = ("improved", "worsened", "unchanged")
"""What happened to a query between the first and the last variant, in the order of the page."""

_SHARES = {"improved": 0.5, "worsened": 0.25, "unchanged": 0.25}

_SMALLEST_CHANGE = 1e-6

_PIXEL = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
"""A transparent pixel. Every picture is in the page once, as the background of a CSS class; `img` elements
that show it carry the class and this as their source, so a picture may occur often at no cost."""

_BYTES_PER_IMAGE = 420
"""Estimate of the markup of one shown image."""


MAX_MIB = 18.0
"""Size that the page may reach; queries that do not fit are left out, and it says so."""

EXTREMES = 8
"""Best and worst queries of the last variant that are shown, each."""

MATCHES = 6
"""Compared pairs drawn with their inliers."""


class ReportConfig(Configuration):
    """What the report shows.

    Attributes:
        queries: queries shown: half of them improved most by the last variant over the first, a quarter
            worsened most, a quarter unchanged.
        results: results shown of each variant.
        paths: trusted paths shown of each query.
        thumbnail_side: long side of the pictures in pixels.
    """

    queries: int = Field(default=12, ge=1, le=10_000)
    results: int = Field(default=10, ge=1, le=100)
    paths: int = Field(default=3, ge=0, le=100)
    thumbnail_side: int = Field(default=160, ge=16, le=1024)


@dataclass(frozen=True)
class Chain:
    """A trusted path: how a variant got from the query to a result.

    Attributes:
        variant: name of the variant.
        rank: rank of the result, from 1.
        correct: whether the result is relevant, None where that is not known.
        steps: at least one; the last one leads to the result.
    """

    variant: str
    rank: int
    correct: bool | None
    steps: Sequence[Step]


@dataclass(frozen=True)
class VariantResults:
    """What one variant found for one query.

    Attributes:
        name: name of the variant.
        average_precision: AP@100, NaN when the query does not count.
        rows: table rows of the first results.
        correct: whether each is relevant, None where that is not known.
        notes: a few characters about each, such as its similarity or inliers; may be empty.
    """

    name: str
    average_precision: float
    rows: Sequence[int]
    correct: Sequence[bool | None]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class QueryPage:
    """One query of the report.

    Attributes:
        row: table row of the query.
        variants: what each variant found, in the order of the ablation.
        paths: trusted paths to some results; bare steps are a path of the last variant.
        landmark: name of the landmark, may be empty.
        relevant: how many index images show it.
    """

    row: int
    variants: Sequence[VariantResults]
    paths: Sequence[Chain | Sequence[Step]] = ()
    landmark: str = ""
    relevant: int | None = None

    @property
    def change(self) -> float:
        """AP of the last stage minus AP of the first variant, NaN when the query does not count."""
        last = stage_rows([variant.name for variant in self.variants])[-1]
        return self.variants[last].average_precision - self.variants[0].average_precision

    @property
    def verdict(self) -> str:
        """The one of `CHANGES` that happened to the query."""
        return _verdict(self.change)

    def chains(self) -> list[Chain]:
        """Return the trusted paths with what they lead to."""
        last = self.variants[-1]
        rank = {row: number for number, row in enumerate(last.rows)}
        return [
            path
            if isinstance(path, Chain)
            else Chain(last.name, rank[path[-1].row] + 1, last.correct[rank[path[-1].row]], path)
            for path in self.paths
        ]

    def images(self) -> Iterator[int]:
        """Yield the table row of every image that is shown, with repetitions."""
        yield self.row
        for variant in self.variants:
            yield from variant.rows
        for chain in self.chains():
            yield self.row
            for step in chain.steps:
                yield from step.train_rows
                yield step.row


@dataclass(frozen=True, eq=False)
class ReportContent:
    """Everything that the report is made of.

    Attributes:
        pages: queries to show.
        pictures: table row to JPEG file, from `thumbnails`; a grey square stands in for a missing one.
        image_ids: image ids of all table rows.
        ablation: the ablation table.
        skipped: images that could not be used: `image_id`, `reason`.
        counts: images of each split.
        data_set: name of the data set.
        parameters: names and values to list.
        facts: what the run was made with: commit, versions, machine.
        intervals: from `evaluation.usage_intervals`, shown below each mAP@100.
        published: name, public and private mAP@100 that others published, None where they did not.
        published_source: where.
        changes: from `change_counts`, over all queries.
        changes_figure: `figures.plot_changes` as a PNG file.
        extreme_queries: from `extremes`.
        matches: compared pairs with their pictures.
        floor: inliers from which a pair counts as verified.
        calibration: what inliers prove, in sentences.
        calibration_figure: `plot_calibration` as a PNG file.
        gains: queries that each stage changed most, by index rows; `index_start` makes them table rows.
        index_start: table row of the first index image.
        landmarks: name of the landmark of all table rows, "" where an image has none; ids that begin with it
            and a slash are shown without it below pictures.
    """

    pages: Sequence[QueryPage]
    pictures: Mapping[int, bytes]
    image_ids: Sequence[str]
    ablation: pd.DataFrame
    skipped: pd.DataFrame
    counts: Mapping[str, int]
    data_set: str = ""
    parameters: Mapping[str, object] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    intervals: pd.DataFrame | None = None
    published: Sequence[tuple[str, float | None, float | None]] = ()
    published_source: str = ""
    changes: Mapping[str, int] = field(default_factory=dict)
    changes_figure: bytes = b""
    extreme_queries: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    matches: Sequence[VerifiedMatch] = ()
    floor: int = 0
    calibration: Sequence[str] = ()
    calibration_figure: bytes = b""
    gains: Sequence[Gain] = ()
    index_start: int = 0
    landmarks: Sequence[str] = ()


def extremes(average_precision: NDArray[np.float64], count: int) -> dict[str, list[tuple[int, float]]]:
    """Return the queries that the last variant answers best and worst.

    Args:
        average_precision: float64 `[v, q]`, variants in order; queries with NaN are left out.
        count: count of each, at most half of the queries.

    Returns:
        `best` and `worst`: query rows with their AP of the last variant, the best and the worst first; an
            answer without fault is never among the worst.
    """
    last = average_precision[-1]
    order = np.argsort(-last, kind="stable")
    order = order[~np.isnan(last[order])]
    count = min(count, len(order) // 2)
    faulty = order[last[order] < 1]
    chosen = {"best": order[:count], "worst": faulty[::-1][:count]}
    return {kind: [(int(row), float(last[row])) for row in rows] for kind, rows in chosen.items()}


def choose_queries(average_precision: NDArray[np.float64], count: int, seed: int = 0) -> NDArray[np.int64]:
    """Choose queries to show: half improved, a quarter worsened, a quarter unchanged, as far as there are.

    Improved and worsened ones are those that changed most from the first variant to the last, unchanged ones
    are drawn. A kind with too few queries leaves its places to the others.

    Args:
        average_precision: float64 `[v, q]`, variants in order; queries with NaN come last.
        count: queries to choose.
        seed: seed of the draw.

    Returns:
        int64 `[min(count, q)]` query rows: improved, worsened, unchanged,
            those with the largest change first.
    """
    change = average_precision[-1] - average_precision[0]
    verdicts = np.array([_verdict(value) for value in change])
    draw = np.random.default_rng(seed).permutation(len(change))
    draw = draw[np.argsort(np.isnan(change[draw]), kind="stable")]
    by_size = np.argsort(-np.abs(np.nan_to_num(change)), kind="stable")
    of_kind = {
        kind: [int(row) for row in (draw if kind == "unchanged" else by_size) if verdicts[row] == kind]
        for kind in CHANGES
    }
    places = {kind: min(len(of_kind[kind]), math.floor(_SHARES[kind] * count)) for kind in CHANGES}
    for kind in CHANGES:
        free = count - sum(places.values())
        places[kind] = min(len(of_kind[kind]), places[kind] + free)
    return np.array([row for kind in CHANGES for row in of_kind[kind][: places[kind]]], dtype=np.int64)


def change_counts(average_precision: NDArray[np.float64]) -> dict[str, int]:
    """Count the queries that each of `CHANGES` happened to; those with NaN count nowhere.

    Args:
        average_precision: float64 `[v, q]`, variants in order.
    """
    change = average_precision[-1] - average_precision[0]
    verdicts = [_verdict(value) for value in change if not math.isnan(value)]
    return {kind: verdicts.count(kind) for kind in CHANGES}


def caption(image_id: str, landmark: str = "") -> str:
    """Return what is written below a picture: its id, without the landmark's folder where it begins with it.

    Args:
        image_id: the id.
        landmark: name of its landmark, "" for none.
    """
    return (landmark and image_id.removeprefix(f"{landmark}/")) or image_id


def render_report(content: ReportContent, max_mib: float = MAX_MIB) -> str:
    """Return the report as one self-contained HTML page without scripts.

    Args:
        content: what it shows.
        max_mib: size that the page may reach, MiB; the last queries are left out when they do not fit.
    """
    pictures, ablation = content.pictures, content.ablation
    outer = {row for queries in content.extreme_queries.values() for row, _ in queries}
    fixed = sum(len(match.picture) for match in content.matches) + len(content.changes_figure)
    fixed += sum(len(pictures.get(row, b"")) for row in outer)
    shown = _fitting(content.pages, pictures, max_mib * 2**20 - 4 / 3 * fixed)
    used = sorted({row for page in shown for row in page.images()} | outer)
    missing = placeholder(32)
    metrics = [name for name in METRICS if ablation[name].notna().any()]
    return template("report.html.j2").render(
        pages=shown,
        left_out=len(content.pages) - len(shown),
        kinds=[kind for kind in CHANGES if any(page.verdict == kind for page in shown)],
        pictures={row: base64.b64encode(pictures.get(row, missing)).decode() for row in used},
        pixel=_PIXEL,
        ids=content.image_ids,
        captions={
            row: caption(content.image_ids[row], content.landmarks[row] if content.landmarks else "")
            for row in used
        },
        columns=[TITLES[name] for name in metrics],
        ablation=_ablation_cells(ablation, metrics),
        stages=stages_in_words(),
        intervals=_interval_cells(content.intervals),
        published=content.published,
        published_source=content.published_source,
        skipped=content.skipped.to_dict("records"),
        counts=content.counts,
        data_set=content.data_set,
        parameters=content.parameters,
        facts=content.facts,
        changes=content.changes,
        measured=bool(metrics),
        not_measured=NOT_MEASURED,
        changes_figure=base64.b64encode(content.changes_figure).decode(),
        extreme_queries=content.extreme_queries,
        shown_rows={page.row for page in shown},
        matches=[(match, base64.b64encode(match.picture).decode()) for match in content.matches],
        floor=content.floor,
        calibration=content.calibration,
        calibration_figure=base64.b64encode(content.calibration_figure).decode(),
        gains=content.gains,
        index_start=content.index_start,
        max_mib=max_mib,
    )


def _verdict(change: float) -> str:
    if math.isnan(change) or abs(change) < _SMALLEST_CHANGE:
        return "unchanged"
    return "improved" if change > 0 else "worsened"


def _fitting(pages: Sequence[QueryPage], pictures: Mapping[int, bytes], budget: float) -> list[QueryPage]:
    """Return the first pages whose pictures and markup stay within a number of bytes."""
    kept: list[QueryPage] = []
    embedded: set[int] = set()
    for page in pages:
        images = list(page.images())
        new = set(images) - embedded
        budget -= len(images) * _BYTES_PER_IMAGE
        budget -= sum(4 * math.ceil(len(pictures.get(row, b"")) / 3) + 60 for row in new)
        if budget < 0:
            break
        kept.append(page)
        embedded |= new
    return kept


def _interval_cells(intervals: pd.DataFrame | None) -> dict[tuple[str, str], dict[str, str]]:
    """Return by variant and metric the interval as text, and the gain over the variant before, if any."""
    if intervals is None:
        return {}
    return {
        (row["variant"], row["metric"]): {
            "interval": f"{row['low']:.4f} to {row['high']:.4f}",
            "gain": ""
            if pd.isna(row["gain"])
            else f"{row['gain']:+.4f} ({row['gain_low']:+.4f} to {row['gain_high']:+.4f})",
        }
        for row in intervals.to_dict("records")
    }


def _ablation_cells(ablation: pd.DataFrame, metrics: Sequence[str]) -> list[dict[str, object]]:
    """Return the rows of the table with, for each metric, its text, its value and whether it is the best."""
    rows = []
    for record in ablation.to_dict("records"):
        cells = []
        for name in metrics:
            value = float(record[name])
            best = value >= float(ablation[name].max()) > float(ablation[name].min())
            text = "–" if math.isnan(value) else f"{value:.4f}"
            cells.append({"metric": name, "text": text, "value": value, "best": best})
        seconds = float(record["seconds"])
        rows.append(
            {
                "variant": record["variant"],
                "cells": cells,
                "seconds": "–" if math.isnan(seconds) else f"{seconds:,.1f}",
            }
        )
    return rows

"""Choosing the options of EGT and of label bridges by their mAP on held-out train images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Annotated, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import ConfigDict, Field

from landmark_retrieval.configuration import Configuration, Seed, Threshold
from landmark_retrieval.evaluation.gld import average_precision
from landmark_retrieval.graph import EgtConfig, LabelBridgeConfig, Traversal, build_label_bridge
from landmark_retrieval.graph.label_bridge import Order, VoteCount
from landmark_retrieval.knn import NeighborLists
from landmark_retrieval.retrieval.stages import Searched, traverse, traverse_with_labels
from landmark_retrieval.retrieval.variants import BLEND_QE_SV_EGT, BLEND_QE_SV_SEMISUP_EGT

OPTIONS = ("t", "query_votes", "index_votes", "min_similarity", "order")
"""What is swept."""

COLUMNS = ("variant", *OPTIONS, "mAP_at_100", "chosen")
"""Columns of the table of a sweep."""

TIE = 1e-9
"""Difference in mAP up to which two settings are equal."""


class SweepConfig(Configuration):
    """What is held out and tried.

    Attributes:
        seed: seed of the draw of what is held out.
        query_fraction: share of a landmark's train images that become queries.
        train_fraction: share of a landmark's train images that keep their labels.
        max_landmarks: landmarks held out at most.
        absent_fraction: share of the landmarks held out that keep no labels at all, so that a setting that
            gives a label to everybody is seen to hurt.
        t: thresholds of EGT.
        votes: pairs of votes for queries and for index images.
        min_similarity: floors for votes.
        order: orders of label-bridged images.
    """

    model_config = ConfigDict(ser_json_inf_nan="strings")

    seed: Seed = 0
    query_fraction: float = Field(default=0.2, gt=0, lt=1)
    train_fraction: float = Field(default=0.4, gt=0, lt=1)
    max_landmarks: int = Field(default=2000, ge=1, le=1_000_000_000)
    absent_fraction: float = Field(default=0.2, ge=0, lt=1)
    t: tuple[Threshold, ...] = Field(
        default=(0.1, 0.2, 0.3, 0.42, 0.5, 0.6, 0.7, 0.8, 0.9, np.inf), min_length=1
    )
    votes: tuple[tuple[VoteCount, VoteCount], ...] = Field(default=((3, 3), (3, 5)), min_length=1)
    min_similarity: tuple[Annotated[Threshold, Field(le=1)], ...] = Field(
        default=(-np.inf, 0.0, 0.1, 0.2, 0.3, 0.4), min_length=1
    )
    order: tuple[Order, ...] = Field(
        default=("query_similarity", "query_neighbors", "train_similarity", "row"), min_length=1
    )

    @property
    def most_votes(self) -> int:
        """Train images that must be searched for each image."""
        return max(max(pair) for pair in self.votes)


@dataclass(frozen=True, eq=False)
class HeldOut:
    """A data set with known answers that no test measures.

    Attributes:
        searched: its q queries and their neighbours among n index images.
        train: `[q + n, v]` train rows nearest to every query and index image, -1 padded.
        train_labels: `[t]`.
        relevant: per query the index rows of its landmark.
    """

    searched: Searched
    train: NeighborLists
    train_labels: NDArray[np.int64]
    relevant: list[NDArray[np.int64]]


def sweep(held_out: HeldOut, config: SweepConfig) -> pd.DataFrame:
    """Measure every threshold with plain EGT, then every option of the label bridge at the best threshold.

    Args:
        held_out: what to measure on.
        config: what to try.

    Returns:
        One row a setting, columns `COLUMNS`; `chosen` marks the best of each variant; among equals the
        default, or else the one in the middle as they are listed. Options that a variant does not have are
        missing.
    """
    nothing = dict.fromkeys(OPTIONS[1:])
    rows: list[dict[str, Any]] = []
    for t in config.t:
        score = _score(traverse(_at(held_out.searched, t)), held_out)
        rows.append({"variant": BLEND_QE_SV_EGT.name, "t": t, **nothing, "mAP_at_100": score})
    _mark_best(rows, {"t": EgtConfig().settled().t})
    best = next(row["t"] for row in rows if row["chosen"])
    bridged = []
    for options in _bridges(config):
        found = _traverse_with_labels(held_out, best, options)
        bridged.append(
            {
                "variant": BLEND_QE_SV_SEMISUP_EGT.name,
                "t": best,
                **options.model_dump(include=set(OPTIONS)),
                "mAP_at_100": _score(found, held_out),
            }
        )
    _mark_best(bridged, LabelBridgeConfig(precedence="always").settled().model_dump(include=set(OPTIONS)))
    return pd.DataFrame(rows + bridged, columns=list(COLUMNS)).astype(
        {"query_votes": "Int64", "index_votes": "Int64"}
    )


def chosen_options(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return the options that a sweep chose, as `graph.settle` takes them.

    Args:
        table: from `sweep`.
    """
    egt, bridge = (
        table[(table["variant"] == variant) & table["chosen"]].iloc[0]
        for variant in (BLEND_QE_SV_EGT.name, BLEND_QE_SV_SEMISUP_EGT.name)
    )
    return {
        "egt": {"t": float(egt["t"])},
        "label_bridge": {
            "query_votes": int(bridge["query_votes"]),
            "index_votes": int(bridge["index_votes"]),
            "min_similarity": float(bridge["min_similarity"]),
            "order": str(bridge["order"]),
        },
    }


def _bridges(config: SweepConfig) -> Iterator[LabelBridgeConfig]:
    for (of_queries, of_index), floor, order in product(config.votes, config.min_similarity, config.order):
        yield LabelBridgeConfig(
            precedence="always",
            query_votes=of_queries,
            index_votes=of_index,
            min_similarity=floor,
            order=order,
        )


def _at(searched: Searched, t: float) -> Searched:
    egt = searched.config.egt.model_copy(update={"t": t})
    return replace(searched, config=searched.config.model_copy(update={"egt": egt}))


def _traverse_with_labels(held_out: HeldOut, t: float, options: LabelBridgeConfig) -> Traversal:
    queries = len(held_out.searched.neighbors)
    near = held_out.train
    bridge = build_label_bridge(near[:queries], near[queries:], held_out.train_labels, options)
    at_best = _at(held_out.searched, t)
    config = at_best.config.model_copy(update={"label_bridge": options})
    return traverse_with_labels(replace(at_best, config=config).with_labels(bridge))


def _score(found: Traversal, held_out: HeldOut) -> float:
    return float(np.nanmean(average_precision(found.ranking, held_out.relevant)))


def _mark_best(rows: list[dict[str, Any]], default: Mapping[str, Any]) -> None:
    scores = np.array([row["mAP_at_100"] for row in rows])
    best = np.flatnonzero(scores >= scores.max() - TIE)
    known = [number for number in best if all(rows[number][name] == default[name] for name in default)]
    chosen = known[0] if known else best[(len(best) - 1) // 2]
    for number, row in enumerate(rows):
        row["chosen"] = number == chosen

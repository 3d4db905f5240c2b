"""Variants of query expansion measured side by side, from what a run has stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from landmark_retrieval.configuration import Configuration
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.evaluation.gld import evaluate_variant
from landmark_retrieval.knn import KnnConfig, KnnGraph, NeighborLists, search
from landmark_retrieval.retrieval.stages import Verified, expand, ranking_of, rerank
from landmark_retrieval.runtime.text_tables import text_table
from landmark_retrieval.verification import ExpansionConfig, candidate_pairs
from landmark_retrieval.verification.candidates import admit_verified

METRICS = ("mAP_at_100", "P_at_10", "R_at_1", "R_at_10")
"""Metrics of the table."""

OPTIONS = ("images", "selection", "method", "query_side", "database_side")
"""Options of the table."""

COLUMNS = ("variant", *OPTIONS, "expanded", *METRICS)
"""Columns of the table; `expanded` is the share of queries and index images whose descriptor changed."""


class QeVariantsConfig(Configuration):
    """What is measured.

    Attributes:
        variants: parameters of query expansion by the name of the variant.
        length: results per query that count.
    """

    variants: dict[str, ExpansionConfig] = Field(min_length=1)
    length: int = Field(default=100, ge=1, le=1_000_000)

    def without_verification(self) -> QeVariantsConfig:
        """Return the variants that need no verified pairs.

        Raises:
            LandmarkRetrievalError: there is none.
        """
        nearest = {name: one for name, one in self.variants.items() if one.selection == "nearest"}
        if not nearest:
            raise LandmarkRetrievalError(
                "qe_variants.variants: all expand by verified images, and no photos were compared; give one "
                "`selection: nearest`"
            )
        return self.model_copy(update={"variants": nearest})


@dataclass(frozen=True, eq=False)
class Described:
    """What expansion starts from.

    Attributes:
        queries: `[q, d]` descriptors before expansion.
        index: `[n, d]` descriptors before expansion.
        graph: their nearest neighbours.
        verified: the pairs of these that were tried.
    """

    queries: NDArray[Any]
    index: NDArray[Any]
    graph: KnnGraph
    verified: Verified


def measure_variants(
    before: Described, relevant: list[NDArray[np.int64]], config: QeVariantsConfig, knn: KnnConfig
) -> pd.DataFrame:
    """Measure every variant of query expansion, each followed by the same search and re-ranking.

    Args:
        before: descriptors, their neighbours and the pairs of these that were tried.
        relevant: per query the index rows of its landmark.
        config: the variants.
        knn: how neighbours are searched.

    Returns:
        Columns `COLUMNS`. First `no verification`, the neighbours as they are, then the variants as listed.

    Raises:
        LandmarkRetrievalError: a variant expands index images whose neighbours were not tried.
    """
    _check_pairs(before, config.variants)
    nothing = {**dict.fromkeys(OPTIONS), "expanded": 0.0}
    plain = ranking_of(before.graph.queries, config.length).rows
    rows = [{"variant": "no verification", **nothing, **evaluate_variant(plain, relevant, None)}]
    for name, expansion in config.variants.items():
        found, expanded = rank_expanded(before, expansion, knn)
        metrics = evaluate_variant(ranking_of(found, config.length).rows, relevant, None)
        rows.append(
            {
                "variant": name,
                **expansion.model_dump(include=set(OPTIONS)),
                "expanded": expanded,
                **metrics,
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"images": "Int64"})


def rank_expanded(
    before: Described, expansion: ExpansionConfig, knn: KnnConfig
) -> tuple[NeighborLists, float]:
    """Expand descriptors, search the queries again and re-rank them by their inliers.

    Args:
        before: what to start from.
        expansion: parameters.
        knn: how neighbours are searched.

    Returns:
        The neighbours of the queries; and the share of images whose descriptor changed.
    """
    verified, graph = before.verified, before.graph
    everybody = verified.candidates is None
    if everybody:
        graph = admit_verified(graph, before.queries, before.index, verified.pairs, verified.floors)
    queries = np.asarray(expand(before.queries, before.index, graph.queries, verified, expansion))
    index = np.asarray(expand(before.index, before.index, graph.index, verified, expansion, of_index=True))
    changed = int((queries != before.queries).any(axis=1).sum() + (index != before.index).any(axis=1).sum())
    found = search(queries, index, knn)
    if everybody:
        nobody = KnnGraph(found, found[:0])
        found = admit_verified(nobody, queries, index, verified.pairs, verified.floors).queries
    return rerank(found, verified), changed / (len(queries) + len(index))


def format_variants(table: pd.DataFrame, data_set: str) -> str:
    """Return the table as text of fixed width.

    Args:
        table: from `measure_variants`.
        data_set: name for the line above.
    """
    cells = [list(COLUMNS)]
    for row in table[list(COLUMNS)].itertuples(index=False):
        cells.append([_cell(name, value) for name, value in zip(COLUMNS, row, strict=True)])
    lines = text_table(cells, left=len(COLUMNS))
    return "\n".join([f"query expansion on data set {data_set}", "", *lines, ""])


def _cell(name: str, value: Any) -> str:
    if pd.isna(value):
        return "-"
    if name in (*METRICS, "expanded"):
        return f"{value:.4f}"
    if name.endswith("_side"):
        return "yes" if value else "no"
    return f"{value:.0f}" if name == "images" else str(value)


def _check_pairs(before: Described, variants: Mapping[str, ExpansionConfig]) -> None:
    needing = [
        name
        for name, one in variants.items()
        if one.database_side and one.selection == "verified" and one.images
    ]
    if not needing:
        return
    wanted = candidate_pairs(before.graph, before.verified.candidates or 1)
    size = int(wanted.max(initial=0)) + 1
    pairs = before.verified.pairs
    there = pairs["row_a"].to_numpy(np.int64) * size + pairs["row_b"].to_numpy(np.int64)
    if not np.isin(wanted[:, 0] * size + wanted[:, 1], there).all():
        raise LandmarkRetrievalError(
            f"qe_variants.variants: '{needing[0]}' expands index images, and not all of their neighbours "
            "were tried; run spatial_verification with expansion.database_side=true, or leave the variant out"
        )

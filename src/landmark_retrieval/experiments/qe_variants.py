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
from landmark_retrieval.knn import KnnConfig, KnnGraph, search
from landmark_retrieval.runtime.text_tables import text_table
from landmark_retrieval.verification import (
    ExpansionConfig,
    candidate_pairs,
    expand_queries_and_index,
    neighbor_inliers,
    rerank,
)

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
    length: int = Field(default=100, ge=1)


@dataclass(frozen=True, eq=False)
class Verified:
    """What expansion starts from.

    Attributes:
        queries: `[q, d]` descriptors before expansion.
        index: `[n, d]` descriptors before expansion.
        graph: their nearest neighbours.
        pairs: the pairs that were tried (`verification.verify_pairs`).
        candidates: leading neighbours that were tried.
        min_inliers: inliers from which a pair counts as verified.
    """

    queries: NDArray[Any]
    index: NDArray[Any]
    graph: KnnGraph
    pairs: pd.DataFrame
    candidates: int
    min_inliers: int


def measure_variants(
    verified: Verified, relevant: list[NDArray[np.int64]], config: QeVariantsConfig, knn: KnnConfig
) -> pd.DataFrame:
    """Measure every variant of query expansion, each followed by the same search and re-ranking.

    Args:
        verified: descriptors, their neighbours and the pairs of these that were tried.
        relevant: per query the index rows of its landmark.
        config: the variants.
        knn: how neighbours are searched.

    Returns:
        Columns `COLUMNS`. First `no verification`, the neighbours as they are, then the variants as listed.

    Raises:
        LandmarkRetrievalError: a variant expands index images whose neighbours were not tried.
    """
    _check_pairs(verified, config.variants)
    nothing = {**dict.fromkeys(OPTIONS), "expanded": 0.0}
    plain = verified.graph.queries.neighbors[:, : config.length]
    rows = [{"variant": "no verification", **nothing, **evaluate_variant(plain, relevant, None)}]
    for name, expansion in config.variants.items():
        ranking, expanded = rank_expanded(verified, expansion, knn)
        metrics = evaluate_variant(ranking[:, : config.length], relevant, None)
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
    verified: Verified, expansion: ExpansionConfig, knn: KnnConfig
) -> tuple[NDArray[np.int32], float]:
    """Expand descriptors, search the queries again and re-rank them by their inliers.

    Args:
        verified: what to start from.
        expansion: parameters.
        knn: how neighbours are searched.

    Returns:
        int32 `[q, k]` index rows, -1 padded; and the share of images whose descriptor changed.
    """
    before, graph = (verified.queries, verified.index), verified.graph
    after = expand_queries_and_index(
        *before,
        graph,
        verified.pairs,
        expansion,
        verified.candidates,
        verified.min_inliers,
    )
    changed = sum(int((new != old).any(axis=1).sum()) for new, old in zip(after, before, strict=True))
    found = search(*after, knn)
    inliers = neighbor_inliers(found.neighbors, 0, len(before[0]), verified.pairs, verified.candidates)
    return rerank(found, inliers, verified.min_inliers).neighbors, changed / sum(map(len, before))


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


def _check_pairs(verified: Verified, variants: Mapping[str, ExpansionConfig]) -> None:
    needing = [
        name
        for name, one in variants.items()
        if one.database_side and one.selection == "verified" and one.images
    ]
    if not needing:
        return
    wanted = candidate_pairs(verified.graph, verified.candidates)
    size = int(wanted.max(initial=0)) + 1
    there = verified.pairs["row_a"].to_numpy(np.int64) * size + verified.pairs["row_b"].to_numpy(np.int64)
    if not np.isin(wanted[:, 0] * size + wanted[:, 1], there).all():
        raise LandmarkRetrievalError(
            f"qe_variants.variants: '{needing[0]}' expands index images, and not all of their neighbours "
            "were tried; run spatial_verification with expansion.database_side=true, or leave the variant out"
        )

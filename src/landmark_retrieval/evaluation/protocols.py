"""The evaluation that a data set's own protocol asks for, on top of the metrics of `gld`."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from landmark_retrieval.collection.rows import SplitRows, listed_index_rows
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.evaluation.bootstrap import BootstrapConfig, mean_interval
from landmark_retrieval.evaluation.revisited import (
    PROTOCOLS,
    RevisitedTruth,
    evaluate_revisited,
    score_revisited,
)

_BLOCK = 65_536
"""Index images that are compared at a time."""


def revisited_truth(table: pd.DataFrame) -> RevisitedTruth | None:
    """Return the ground truth of a table with lists of junk images, None for any other table.

    Args:
        table: a prepared table; `relevant` holds easy and hard images, `hard` the hard ones.
    """
    if "junk" not in table:
        return None
    relevant, hard, junk = (listed_index_rows(table, column) for column in ("relevant", "hard", "junk"))
    easy = [np.setdiff1d(both, only) for both, only in zip(relevant, hard, strict=True)]
    return RevisitedTruth(easy=easy, hard=hard, junk=junk)


def complete_ranking(
    ranking: NDArray[np.int32], queries: NDArray[np.floating], index: NDArray[np.floating]
) -> NDArray[np.int32]:
    """Rank every index image: after the results that there are, all others by inner product.

    Args:
        ranking: int32 `[q, k]` index rows, best first, -1 where there is no result.
        queries: `[q, d]` descriptors.
        index: `[n, d]` descriptors, possibly memory-mapped; read once, in blocks. Images without a
            descriptor (zero rows) come last.

    Returns:
        int32 `[q, n]`: every index row once; ties go to the lower row.

    Raises:
        LandmarkRetrievalError: the arrays do not belong together.
    """
    if len(ranking) != len(queries) or ranking.max(initial=-1) >= len(index):
        raise LandmarkRetrievalError(
            f"a ranking of {len(ranking)} queries does not fit descriptors of {len(queries)} queries and "
            f"{len(index)} index images; make both from the same image table"
        )
    wanted = np.asarray(queries, dtype=np.float32)
    similarities = np.empty((len(wanted), len(index)), dtype=np.float32)
    for start in range(0, len(index), _BLOCK):
        block = np.asarray(index[start : start + _BLOCK], dtype=np.float32)
        part = similarities[:, start : start + len(block)]
        np.matmul(wanted, block.T, out=part)
        part[:, ~block.any(axis=1)] = -np.inf
    completed = np.empty(similarities.shape, dtype=np.int32)
    for row, results in enumerate(ranking):
        first = results[results >= 0]
        rest = np.argsort(-similarities[row], kind="stable")
        completed[row] = np.concatenate([first, rest[~np.isin(rest, first)]])
    return completed


def evaluate_protocol(
    ranking: NDArray[np.int32],
    table: pd.DataFrame,
    descriptors: NDArray[np.floating],
    config: BootstrapConfig | None = None,
) -> dict[str, float]:
    """Return the metrics of the protocol that a table calls for.

    The revisited protocol ranks the whole index, so rankings are completed by similarity first.

    Args:
        ranking: int32 `[q, k]` index rows, best first, -1 where there is no result.
        table: the prepared image table.
        descriptors: `[n, d]`, a row for every row of the table.
        config: configuration of the confidence intervals, the defaults when None.

    Returns:
        For tables with junk images those of `revisited.evaluate_revisited`, and `<mAP>_low` and `<mAP>_high`
        of every mAP; nothing for other tables.
    """
    truth = revisited_truth(table)
    if truth is None:
        return {}
    rows = SplitRows.from_table(table)
    completed = complete_ranking(ranking, descriptors[rows.asked], descriptors[rows.index])
    metrics = evaluate_revisited(completed, truth)
    for protocol in PROTOCOLS:
        if f"mAP_{protocol}" in metrics:
            scores = score_revisited(completed, truth, protocol)["AP"].to_numpy()
            interval = mean_interval(scores, config)
            metrics |= {f"mAP_{protocol}_low": interval.low, f"mAP_{protocol}_high": interval.high}
    return metrics

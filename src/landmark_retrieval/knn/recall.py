"""How much of the truth an approximate search finds."""

from __future__ import annotations

import logging
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landmark_retrieval.knn.config import KnnConfig
from landmark_retrieval.knn.exact import search_exactly
from landmark_retrieval.knn.search import check_inputs, search_checked

logger = logging.getLogger(__name__)


def recall_against_exact(
    queries: NDArray[Any],
    database: NDArray[Any],
    config: KnnConfig,
    exclude: NDArray[np.int64] | None = None,
    sample: int = 1000,
    seed: int = 0,
) -> float:
    """Return the share of the exact neighbours that the approximate search finds, on a sample of queries.

    A neighbour as similar as the last exact one counts as found, so that duplicates do no harm.

    Args:
        queries: `[q, d]`.
        database: `[n, d]`.
        config: with `approximate` set; without, exact search is compared with itself.
        exclude: int64 `[q]` as in `search`.
        sample: queries to compare, at most.
        seed: of the draw.

    Returns:
        Share in [0, 1]; 1 where there is nothing to find.

    Raises:
        LandmarkRetrievalError: as `search`.
    """
    excluded = check_inputs(queries, database, exclude)
    drawn = np.sort(np.random.default_rng(seed).permutation(len(queries))[:sample])
    some, some_excluded = np.ascontiguousarray(queries[drawn]), excluded[drawn]
    start = time.perf_counter()
    found = search_checked(some, database, config, some_excluded, "approximate search")
    middle = time.perf_counter()
    exact = search_exactly(some, database, config, some_excluded, "exact search")
    end = time.perf_counter()
    wanted = (exact.neighbors >= 0).sum(axis=1)
    last = exact.weights[np.arange(len(wanted)), np.maximum(wanted - 1, 0)]
    hits = ((found.neighbors >= 0) & (found.weights >= last[:, None])).sum(axis=1)
    recall = float(np.minimum(hits, wanted).sum() / wanted.sum()) if wanted.any() else 1.0
    logger.info(
        "approximate search finds %.2f %% of the %d nearest of %d queries; %.1f s with building its index, "
        "exact search %.1f s",
        100 * recall,
        config.k,
        len(drawn),
        middle - start,
        end - middle,
    )
    return recall

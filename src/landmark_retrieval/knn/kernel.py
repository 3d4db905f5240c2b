"""The compiled loop that scores candidates on a CPU."""

from __future__ import annotations

import numpy as np

from landmark_retrieval.runtime.compiled import compiled


@compiled(fastmath={"reassoc"})
def score_places(queries, block, places, sums, start, stop):  # type: ignore[no-untyped-def]
    """Write inner products in double precision, in any order of summation.

    Args:
        queries: float32 `[b, d]`.
        block: float32 `[m, d]`.
        places: int64 `[b, c]` rows of the block, -1 for none.
        sums: float64 `[b, c]`, written where there is a place.
        start: first query.
        stop: query after the last.
    """
    for i in range(start, stop):
        query = queries[i]
        for c in range(places.shape[1]):
            if places[i, c] >= 0:
                row = block[places[i, c]]
                total = 0.0
                for d in range(len(query)):
                    total += np.float64(query[d]) * np.float64(row[d])
                sums[i, c] = total

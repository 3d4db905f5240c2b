"""Compiled selection of the nearest rows: exact whatever the blocks and the matrix library are.

A fast matrix product gives similarities that are off by rounding, differently for every block shape. They
only say which rows *may* be among the k nearest: all within the error bound of the k-th. Those are scored
again in double precision in a fixed order, and kept in a heap per query whose order is (score, lower row).
Hence equal descriptors have equal scores, and the result is the same for all blocks, engines and devices.

The error of a float32 inner product summed in any order is at most γ‖q‖‖b‖ with γ = d·u / (1 - d·u) and
u = 2⁻²⁴ (Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., section 3.1).
"""

from __future__ import annotations

import numba
import numpy as np

from landmark_retrieval.runtime.compiled import compiled

CHUNK = 32
"""Similarities that are looked at together: almost always none of them is large enough."""


@numba.extending.register_jitable(fastmath={"reassoc", "contract"})
def inner_product(a, b):  # type: ignore[no-untyped-def]
    """Return the inner product of two float32 vectors, summed in double precision, as float32."""
    total = 0.0
    for i in range(len(a)):
        total += np.float64(a[i]) * np.float64(b[i])
    return np.float32(total)


@compiled
def row_norms(matrix, norms, start, stop):  # type: ignore[no-untyped-def]
    """Write the Euclidean norms of rows start to stop; NaN or inf where the row is not finite."""
    for i in range(start, stop):
        total = 0.0
        for value in matrix[i]:
            total += np.float64(value) * np.float64(value)
        norms[i] = np.float32(np.sqrt(total))


@compiled
def _sift(scores, rows, size, score, row):  # type: ignore[no-untyped-def]
    """Put a new entry at the root of the heap (worst first: lower score, then higher row)."""
    at = 0
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        right = child + 1
        if right < size and (
            scores[right] < scores[child] or (scores[right] == scores[child] and rows[right] > rows[child])
        ):
            child = right
        if scores[child] < score or (scores[child] == score and rows[child] > row):
            scores[at] = scores[child]
            rows[at] = rows[child]
            at = child
        else:
            break
    scores[at] = score
    rows[at] = row


@compiled
def _offer(query, block, rows, columns, count, best_scores, best_rows):  # type: ignore[no-untyped-def]
    """Score candidates exactly and keep those that are better than the worst kept one."""
    for c in range(count):
        j = columns[c]
        score = inner_product(query, block[j])  # type: ignore[no-untyped-call]
        row = rows[j]
        if score > best_scores[0] or (score == best_scores[0] and row < best_rows[0]):
            _sift(best_scores, best_rows, len(best_scores), score, row)


@compiled
def _cut(columns, values, count, k, slack):  # type: ignore[no-untyped-def]
    """Drop candidates that k others beat by more than both errors; return their number and the floor."""
    floor = np.partition(values[:count], count - k)[count - k] - 2 * slack
    kept = 0
    for c in range(count):
        if values[c] >= floor:
            columns[kept] = columns[c]
            values[kept] = values[c]
            kept += 1
    return kept, floor


@compiled
def gather_from_products(  # type: ignore[no-untyped-def]
    products,
    first,
    queries,
    slack,
    excluded,
    block,
    rows,
    best_scores,
    best_rows,
    columns,
    values,
    counts,
    floors,
    start,
    stop,
):
    """Note which rows of a tile of the block may be among the k nearest of queries start to stop.

    Rows are noted with their rounded products; `offer_gathered` scores them when all tiles of the block
    have been seen, so that few are scored that others beat. Where too many are as good as the k-th (equal
    descriptors), they are scored at once.

    Args:
        products: float32 `[b, w]` rounded inner products of queries and tile.
        first: column of the block at which the tile starts.
        queries: float32 `[b, d]`.
        slack: float32 `[b]` bound of the error of `products`; negative for a query without descriptor.
        excluded: int64 `[b]` row that must not be returned, -1 for none.
        block: float32 `[n, d]`.
        rows: int32 `[n]` row numbers of the block.
        best_scores: float32 `[b, k]` heaps, changed in place.
        best_rows: int32 `[b, k]` likewise.
        columns: int32 `[b, c]`, columns of the block noted so far; `c` at least `gathered_width(k)`.
        values: float32 `[b, c]` their rounded products.
        counts: int32 `[b]` how many there are.
        floors: float32 `[b]` products below which a row cannot be among the k nearest noted so far.
        start: first query.
        stop: query after the last.
    """
    width = products.shape[1]
    k = best_scores.shape[1]
    most = columns.shape[1]
    for i in range(start, stop):
        if slack[i] < 0:
            continue
        similarities = products[i]
        floor = max(floors[i], best_scores[i, 0] - slack[i])
        count = counts[i]
        for left in range(0, width, CHUNK):
            right = min(left + CHUNK, width)
            any_above = False
            for j in range(left, right):
                any_above |= similarities[j] >= floor
            if not any_above:
                continue
            if count + CHUNK > most:
                count, floor = _cut(columns[i], values[i], count, k, slack[i])
                if count + CHUNK > most:
                    _offer(queries[i], block, rows, columns[i], count, best_scores[i], best_rows[i])
                    count, floor = 0, best_scores[i, 0] - slack[i]
            for j in range(left, right):
                if similarities[j] >= floor and rows[first + j] != excluded[i]:
                    columns[i, count] = first + j
                    values[i, count] = similarities[j]
                    count += 1
        counts[i], floors[i] = count, floor


def gathered_width(k: int) -> int:
    """Return how many columns `gather_from_products` notes for each query: twice k, and two chunks."""
    return 2 * k + 2 * CHUNK


@compiled
def offer_gathered(  # type: ignore[no-untyped-def]
    queries, slack, block, rows, best_scores, best_rows, columns, values, counts, floors, start, stop
):
    """Score what `gather_from_products` noted, and forget it; arguments as there."""
    k = best_scores.shape[1]
    for i in range(start, stop):
        count = counts[i]
        if count > k:
            count, _ = _cut(columns[i], values[i], count, k, slack[i])
        _offer(queries[i], block, rows, columns[i], count, best_scores[i], best_rows[i])
        counts[i], floors[i] = 0, -np.inf


@compiled
def select_from_candidates(  # type: ignore[no-untyped-def]
    candidates,
    similarities,
    queries,
    slack,
    excluded,
    block,
    rows,
    best_scores,
    best_rows,
    complete,
    columns,
    values,
    start,
    stop,
):
    """Merge candidates found by another library; arguments as in `gather_from_products`, except these.

    `candidates` int64 `[b, c]` are columns of the block, in any order, -1 padded, and must hold those with
    the c largest rounded inner products, `similarities` float32 `[b, c]`. `complete` bool `[b]` is set to
    whether they are certain to hold all of the k nearest; where not, the heap is left alone. The workspaces
    `columns` and `values` have c entries.
    """
    width = candidates.shape[1]
    k = best_scores.shape[1]
    for i in range(start, stop):
        complete[i] = True
        if slack[i] < 0:
            continue
        floor = best_scores[i, 0] - slack[i]
        lowest = np.float32(np.inf)
        found = 0
        count = 0
        for c in range(width):
            j = candidates[i, c]
            if j < 0:
                continue
            found += 1
            lowest = min(lowest, similarities[i, c])
            if rows[j] != excluded[i]:
                columns[count] = j
                values[count] = similarities[i, c]
                count += 1
        if count > k:
            count, cut = _cut(columns, values, count, k, slack[i])
            floor = max(floor, cut)
        if found < len(rows) and lowest >= floor:
            complete[i] = False
            continue
        kept = 0
        for c in range(count):
            if values[c] >= floor:
                columns[kept] = columns[c]
                kept += 1
        _offer(queries[i], block, rows, columns, kept, best_scores[i], best_rows[i])


@compiled
def sort_heaps(best_scores, best_rows, start, stop):  # type: ignore[no-untyped-def]
    """Turn heaps into lists by falling score, ties by lower row."""
    for i in range(start, stop):
        for size in range(best_scores.shape[1] - 1, 0, -1):
            score, row = best_scores[i, size], best_rows[i, size]
            best_scores[i, size] = best_scores[i, 0]
            best_rows[i, size] = best_rows[i, 0]
            _sift(best_scores[i], best_rows[i], size, score, row)


@compiled
def score_candidates(  # type: ignore[no-untyped-def]
    candidates, queries, block, rows, best_scores, best_rows, start, stop
):
    """Merge candidates int32 `[b, c]` (columns of the block, -1 for none) that only are likely neighbours.

    The other arguments are those of `gather_from_products`.
    """
    columns = np.empty(candidates.shape[1], np.int32)
    for i in range(start, stop):
        count = 0
        for j in candidates[i]:
            if j >= 0:
                columns[count] = j
                count += 1
        _offer(queries[i], block, rows, columns, count, best_scores[i], best_rows[i])

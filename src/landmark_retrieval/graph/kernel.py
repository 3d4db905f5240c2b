"""The compiled loop of explore-exploit graph traversal, with or without label hubs.

Three things make the cost of a query depend on what it visits only. What is known of a vertex (its best
edge so far) carries the number of the query that wrote it, so nothing is cleared between queries. The heap
is cut down whenever it has grown to twice the results still wanted: a vertex behind that many others can
never come out before the list is full, because the heap always gives its best first and only what arrives
later can change the order. And as lists fall in weight, a list is left at the first edge below that cut.
None of them changes the result.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from landmark_retrieval.runtime.compiled import compiled

SIMILARITY_EDGE = 1
LABEL_EDGE = 2
VERIFIED_EDGE = 3

ORDER_STORED = 0
ORDER_QUERY_NEIGHBORS = 1
ORDER_QUERY_SIMILARITY = 2


def make_workspace(vertices: int, results: int, hubs: int, members: int, dtype: Any) -> tuple[Any, ...]:
    """Return the arrays that one thread reuses for all its queries.

    Args:
        vertices: number of vertices of the index.
        results: most results a query can have (p, at most `vertices`).
        hubs: number of label hubs.
        members: number of members of the largest hub.
        dtype: dtype of the weights.
    """
    state = np.zeros(vertices, np.dtype([("best", dtype), ("stamp", np.dtype(dtype).str.replace("f", "i"))]))
    heap = np.dtype(
        [("weight", dtype), ("vertex", np.int32), ("order", np.int64), ("parent", np.int32)], True
    )
    return (
        state,
        np.empty(2 * results + 64, heap),
        np.empty(results, heap),
        np.zeros(max(hubs, 1), np.int64),
        np.empty(members, np.int32),
        np.empty(members, np.float32),
        np.zeros(1, np.int64),
    )


@compiled
def _push(heap, size, weight, vertex, order, parent):  # type: ignore[no-untyped-def]
    """Add an entry; among equal weights the earlier one stays above."""
    i = size
    while i > 0:
        up = (i - 1) >> 1
        if heap[up].weight >= weight:
            break
        heap[i] = heap[up]
        i = up
    heap[i].weight = weight
    heap[i].vertex = vertex
    heap[i].order = order
    heap[i].parent = parent


@compiled
def _remove_top(heap, size):  # type: ignore[no-untyped-def]
    """Remove the best entry of `size`; the last place becomes free."""
    last = size - 1
    weight = heap[last].weight
    order = heap[last].order
    i = 0
    while True:
        child = 2 * i + 1
        if child >= last:
            break
        other = child + 1
        if other < last and (
            heap[other].weight > heap[child].weight
            or (heap[other].weight == heap[child].weight and heap[other].order < heap[child].order)
        ):
            child = other
        if heap[child].weight < weight or (heap[child].weight == weight and heap[child].order > order):
            break
        heap[i] = heap[child]
        i = child
    heap[i] = heap[last]


@compiled
def _cut_heap(heap, size, spare, state, wanted, cut):  # type: ignore[no-untyped-def]
    """Keep the best `wanted` entries that still count; return the new size and the cut.

    An entry counts while its vertex was not reached and no better edge to it was found. Sorted by falling
    weight, the entries are a heap again.
    """
    kept = 0
    while size > 0 and kept < wanted:
        if heap[0].weight == state[heap[0].vertex].best:
            spare[kept] = heap[0]
            kept += 1
        _remove_top(heap, size)
        size -= 1
    for i in range(kept):
        heap[i] = spare[i]
    if kept == wanted:
        cut = max(cut, heap[kept - 1].weight)
    return kept, cut


@compiled
def _explore(  # type: ignore[no-untyped-def]
    indices, weights, begin, end, factor, descending, parent,
    state, stamp, heap, spare, size, order, wanted, cut,
):  # fmt: skip
    """Push the edges of one vertex that improve on what is known; return size, order and cut.

    All weights are multiplied by `factor`, which is not negative.
    """
    for e in range(begin, end):
        w = weights[e] * factor
        if w <= cut:
            if descending:
                break
            continue
        u = indices[e]
        if u < 0:
            continue
        if state[u].stamp == stamp:
            if not w > state[u].best:  # also when reached already: best is then NaN
                continue
        else:
            state[u].stamp = stamp
        state[u].best = w
        _push(heap, size, w, u, order, parent)
        size += 1
        order += 1
        if size == len(heap):
            size, cut = _cut_heap(heap, size, spare, state, wanted, cut)
    return size, order, cut


@compiled
def _inner_product(x, y):  # type: ignore[no-untyped-def]
    """Return x · y, summed in eight lanes."""
    lanes = np.zeros(8, np.float32)
    whole = len(x) - len(x) % 8
    for i in range(0, whole, 8):
        for lane in range(8):
            lanes[lane] += x[i + lane] * y[i + lane]
    total = np.float32(0)
    for lane in range(8):
        total += lanes[lane]
    for i in range(whole, len(x)):
        total += x[i] * y[i]
    return total


@compiled
def _open_hub(  # type: ignore[no-untyped-def]
    hub, parent, q, hub_ptr, members, order, query_indices, query_weights, query_descriptors, descriptors,
    state, stamp, opened, names, keys, ranking, scores, parents, kinds, count,
):  # fmt: skip
    """Append the images of one label that were not reached; return the new number of results."""
    if opened[hub] == stamp:
        return count
    opened[hub] = stamp
    found = 0
    for m in range(hub_ptr[hub], hub_ptr[hub + 1]):
        u = members[m]
        if state[u].stamp == stamp and np.isnan(state[u].best):
            continue
        names[found] = u
        if order == ORDER_QUERY_SIMILARITY:
            keys[found] = -_inner_product(query_descriptors[q], descriptors[u])
        found += 1
    if order == ORDER_QUERY_NEIGHBORS:
        # `names` has the order for images that are not in the query's list: they keep it, behind the others
        keys[:found] = np.inf
        for e in range(len(query_indices)):
            for m in range(found):
                if names[m] == query_indices[e]:
                    keys[m] = min(keys[m], -np.float32(query_weights[e]))
    if order != ORDER_STORED:
        names[:found] = names[:found][np.argsort(keys[:found], kind="mergesort")]
    for m in range(min(found, ranking.shape[1] - count)):
        u = names[m]
        state[u].stamp = stamp
        state[u].best = np.nan
        ranking[q, count] = u
        scores[q, count] = np.inf
        parents[q, count] = parent
        kinds[q, count] = LABEL_EDGE
        count += 1
    return count


@compiled
def traverse(  # type: ignore[no-untyped-def]
    q_indptr, q_indices, q_weights, indptr, indices, weights, q_descending, descending, t, product,
    q_hubs, hubs, hub_ptr, members, member_order, query_descriptors, descriptors, own,
    state, heap, spare, opened, names, keys, clock, ranking, scores, parents, kinds, start, stop,
):  # fmt: skip
    """Traverse the graph for queries start..stop and write their rows of the four results.

    `q_hubs` and `hubs` name the label hub of each query and vertex, -1 for none; both are empty when there
    are no labels. With `product` an edge is worth its weight times what the vertex that it comes from is
    worth: the product of the weights along the path. `own` names the vertex that is the query itself and
    counts as reached, -1 for none; it is empty when no query is a vertex.
    """
    p = ranking.shape[1]
    labels = len(hubs) > 0
    one = np.float32(1)
    for q in range(start, stop):
        clock[0] += 1
        stamp = clock[0]
        size = 0
        order = 0
        count = 0
        cut = -np.inf
        if len(own) > 0 and own[q] >= 0:
            state[own[q]].stamp = stamp
            state[own[q]].best = np.nan
        begin, end = q_indptr[q], q_indptr[q + 1]
        size, order, cut = _explore(
            q_indices, q_weights, begin, end, one, q_descending, -1,
            state, stamp, heap, spare, size, order, p, cut,
        )  # fmt: skip
        if labels and q_hubs[q] >= 0:
            count = _open_hub(
                q_hubs[q], -1, q, hub_ptr, members, member_order,
                q_indices[begin:end], q_weights[begin:end], query_descriptors, descriptors,
                state, stamp, opened, names, keys, ranking, scores, parents, kinds, count,
            )  # fmt: skip
        explored = 0
        popped = count > 0
        while True:
            while size > 0 and count < p and (not popped or heap[0].weight > t):
                weight = heap[0].weight
                v = heap[0].vertex
                parent = heap[0].parent
                _remove_top(heap, size)
                size -= 1
                if np.isnan(state[v].best):
                    continue
                popped = True
                state[v].best = np.nan
                ranking[q, count] = v
                scores[q, count] = weight
                parents[q, count] = parent
                kinds[q, count] = SIMILARITY_EDGE
                count += 1
                if labels and hubs[v] >= 0 and count < p:
                    count = _open_hub(
                        hubs[v], v, q, hub_ptr, members, member_order,
                        q_indices[begin:end], q_weights[begin:end], query_descriptors, descriptors,
                        state, stamp, opened, names, keys, ranking, scores, parents, kinds, count,
                    )  # fmt: skip
            if count >= p or explored == count:
                break
            for i in range(explored, count):
                v = ranking[q, i]
                factor = scores[q, i] if product else one
                size, order, cut = _explore(
                    indices, weights, indptr[v], indptr[v + 1], factor, descending, v,
                    state, stamp, heap, spare, size, order, p - count, cut,
                )  # fmt: skip
            explored = count
            popped = False

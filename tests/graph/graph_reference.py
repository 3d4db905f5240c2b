"""Slow, obviously right versions of what the graph package computes: dictionaries, heapq, one step a line."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter

Adjacency = dict[object, list[tuple[object, float]]]


def traverse(query_edges: list[tuple[int, float]], adjacency: Adjacency, t: float, p: int) -> list[tuple]:
    """EGT for one query, word for word; returns (vertex, weight, parent) in order."""
    reached: set[object] = {"query"}
    frontier: list[object] = ["query"]
    best: dict[object, float] = {}
    heap: list = []
    order = itertools.count()
    results: list[tuple] = []
    edges = {**adjacency, "query": query_edges}
    while len(results) < p and (heap or frontier):
        for v in frontier:
            for u, w in edges.get(v, []):
                if u not in reached and w > best.get(u, -math.inf):
                    heapq.heappush(heap, (-w, next(order), u, v))
                    best[u] = w
        frontier = []
        if not heap:
            break
        while True:
            w, _, u, v = heapq.heappop(heap)
            if u not in reached:
                results.append((u, -w, v))
                frontier.append(u)
                reached.add(u)
            if len(results) >= p or not heap or -heap[0][0] <= t:
                break
    return results


def traverse_with_labels(
    query: int,
    query_edges: list[tuple[int, float]],
    adjacency: Adjacency,
    query_train: dict[int, int],
    image_train: dict[int, int],
    train_labels: list[int],
    rank: dict[int, float],
    t: float,
    p: int,
) -> list[int]:
    """Semi-supervised EGT on the graph as the paper draws it: all train images of a label joined.

    A vertex is ("query", i), ("train", i) or ("image", i). Label edges lie on a level above all similarity
    edges and are explored as soon as a vertex is reached; among them train images come first, then images
    by `rank`. Similarity edges are explored when the round is over, as in plain EGT.
    """
    label_edges: dict[tuple, set[tuple]] = {}

    def link(a: tuple, b: tuple) -> None:
        label_edges.setdefault(a, set()).add(b)
        label_edges.setdefault(b, set()).add(a)

    for i, row in query_train.items():
        label_edges.setdefault(("query", i), set()).add(("train", row))
    for i, row in image_train.items():
        link(("image", i), ("train", row))
    for a, b in itertools.combinations(range(len(train_labels)), 2):
        if train_labels[a] == train_labels[b] >= 0:
            link(("train", a), ("train", b))

    start = ("query", query)
    edges = {("image", v): [(("image", u), w) for u, w in near] for v, near in adjacency.items()}
    edges[start] = [(("image", u), w) for u, w in query_edges]
    reached = {start}
    frontier = [start]
    best: dict[tuple, float] = {}
    heap: list = []
    order = itertools.count()
    results: list[int] = []

    def push_label_edges(v: tuple) -> None:
        for u in label_edges.get(v, ()):
            if u not in reached:
                key = (0, 0.0, u[1]) if u[0] == "train" else (1, rank[u[1]], u[1])
                heapq.heappush(heap, ((0, key), next(order), u))

    push_label_edges(start)
    while len(results) < p and (heap or frontier):
        for v in frontier:
            for u, w in edges.get(v, []):
                if u not in reached and w > best.get(u, -math.inf):
                    heapq.heappush(heap, ((1, -w), next(order), u))
                    best[u] = w
        frontier = []
        if not heap:
            break
        while True:
            _, _, u = heapq.heappop(heap)
            if u not in reached:
                reached.add(u)
                frontier.append(u)
                push_label_edges(u)
                if u[0] == "image":
                    results.append(u[1])
            if len(results) >= p or not heap or (heap[0][0][0] == 1 and -heap[0][0][1] <= t):
                break
    return results


def symmetrize(lists: list[list[tuple[int, float]]]) -> list[list[tuple[int, float]]]:
    """Union of both directions with the larger weight, sorted by falling weight, then by row."""
    weight: dict[tuple[int, int], float] = {}
    for v, near in enumerate(lists):
        for u, w in near:
            if u >= 0 and u != v:
                for edge in ((v, u), (u, v)):
                    weight[edge] = max(weight.get(edge, -math.inf), w)
    result: list[list[tuple[int, float]]] = [[] for _ in lists]
    for (v, u), w in weight.items():
        result[v].append((u, w))
    return [sorted(near, key=lambda edge: (-edge[1], edge[0])) for near in result]


def vote(
    near: list[tuple[int, float]], labels: list[int], votes: int, floor: float
) -> tuple[int, int, float]:
    """Label, train row and similarity by strict majority of `votes`."""
    voters = [(row, w) for row, w in near[:votes] if row >= 0 and labels[row] >= 0]
    voters = [(row, w) for row, w in voters if w >= floor]
    for label, count in Counter(labels[row] for row, _ in voters).items():
        if count > votes / 2:
            row, w = max(((row, w) for row, w in voters if labels[row] == label), key=lambda pair: pair[1])
            return label, row, w
    return -1, -1, -math.inf

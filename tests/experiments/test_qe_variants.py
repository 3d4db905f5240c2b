"""Variants of query expansion, against the stages called one by one and a brute-force search."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.experiments.qe_variants import (
    COLUMNS,
    Described,
    QeVariantsConfig,
    format_variants,
    measure_variants,
    rank_expanded,
)
from landmark_retrieval.knn import KnnConfig, build_knn_graph
from landmark_retrieval.retrieval.stages import Verified
from landmark_retrieval.verification import ExpansionConfig, candidate_pairs

KNN = KnnConfig(k=6)
FLOOR = 10
OF_QUERIES, OF_INDEX = np.repeat(np.arange(4), 2), np.repeat(np.arange(4), 4)


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def described():
    random = np.random.default_rng(0)
    centres = random.normal(size=(4, 8))
    queries, index = (
        unit(centres[labels] + 0.9 * random.normal(size=(len(labels), 8)))
        for labels in (OF_QUERIES, OF_INDEX)
    )
    graph = build_knn_graph(queries, index, KNN)
    pairs = candidate_pairs(graph, 4)
    labels = np.concatenate([OF_QUERIES, OF_INDEX])
    same = labels[pairs[:, 0]] == labels[pairs[:, 1]]
    inliers = np.where(same, random.integers(5, 40, len(pairs)), random.integers(0, 11, len(pairs)))
    table = pd.DataFrame({"row_a": pairs[:, 0], "row_b": pairs[:, 1], "inliers": inliers.astype(np.int32)})
    return Described(queries, index, graph, Verified(table, len(queries), 4, (FLOOR, FLOOR)))


def slow_ranking(described, images):
    """Average of the verified, brute-force search and re-ranking, one image at a time.

    In double precision and rounded once: images that expand to the same sum are equal, and equal ones come in
    the order of their rows.
    """
    found = {(a, b): n for a, b, n in described.verified.pairs.itertuples(index=False)}
    count = len(described.queries)

    def inliers(row, neighbor):
        return found.get((min(row, count + neighbor), max(row, count + neighbor)), 0)

    def expand(descriptor, row, neighbors):
        top = [j for j in neighbors[:4] if j >= 0 and inliers(row, j) >= FLOOR]
        top = sorted(top, key=lambda j: -inliers(row, j))[:images]
        total = descriptor.astype(float) + sum(described.index[j].astype(float) for j in top)
        return (total / np.linalg.norm(total)).astype(np.float32).astype(float)

    queries = [expand(x, i, described.graph.queries.neighbors[i]) for i, x in enumerate(described.queries)]
    index = np.array(
        [expand(x, count + i, described.graph.index.neighbors[i]) for i, x in enumerate(described.index)]
    )
    rows = []
    for i, query in enumerate(queries):
        order = list(np.argsort(-(index @ query).astype(np.float32), kind="stable")[:6])
        top = [n if n >= FLOOR else 0 for n in (inliers(i, j) for j in order[:4])]
        rows.append([order[c] for c in np.argsort(-np.array(top), kind="stable")] + order[4:])
    return np.array(rows)


@pytest.mark.parametrize("images", [0, 1, 2, 4])
def test_a_ranking_equals_a_slow_one(described, images):
    ranking, expanded = rank_expanded(described, ExpansionConfig(images=images), KNN)
    np.testing.assert_array_equal(ranking.neighbors, slow_ranking(described, images))
    assert (expanded > 0) == (images > 0)


def test_a_row_for_every_variant(described):
    config = QeVariantsConfig(
        variants={
            "paper": ExpansionConfig(),
            "queries": ExpansionConfig(database_side=False),
            "nearest": ExpansionConfig(selection="nearest", method="rank", query_side=False),
        }
    )
    relevant = [np.flatnonzero(label == OF_INDEX) for label in OF_QUERIES]
    table = measure_variants(described, relevant, config, KNN)
    assert tuple(table.columns) == COLUMNS
    assert table["variant"].tolist() == ["no verification", "paper", "queries", "nearest"]
    assert table.loc[0, "R_at_1"] == (OF_INDEX[described.graph.queries.neighbors[:, 0]] == OF_QUERIES).mean()
    best = slow_ranking(described, 2)[:, 0]
    assert table.loc[1, "R_at_1"] == (OF_INDEX[best] == OF_QUERIES).mean()
    assert table.loc[2, "expanded"] < table.loc[1, "expanded"] and table.loc[3, "expanded"] == 16 / 24
    text = format_variants(table, "toy")
    assert "data set toy" in text and all(name in text for name in table["variant"])
    assert len(text.splitlines()) == 8


def test_index_images_that_were_not_verified_are_named(described):
    pairs = described.verified.pairs
    query_side = pairs[pairs["row_a"] < len(described.queries)]
    part = replace(described, verified=replace(described.verified, pairs=query_side))
    relevant = [np.flatnonzero(label == OF_INDEX) for label in OF_QUERIES]
    fine = QeVariantsConfig(variants={"queries": ExpansionConfig(database_side=False)})
    assert len(measure_variants(part, relevant, fine, KNN)) == 2
    refused = QeVariantsConfig(variants={"both": ExpansionConfig()})
    with pytest.raises(LandmarkRetrievalError, match="'both' expands index images"):
        measure_variants(part, relevant, refused, KNN)


def test_misspelt_options_and_no_variants_are_refused():
    with pytest.raises(LandmarkRetrievalError, match="did you mean 'database_side'"):
        QeVariantsConfig(variants={"x": {"databaseside": False}})
    with pytest.raises(LandmarkRetrievalError):
        QeVariantsConfig(variants={})

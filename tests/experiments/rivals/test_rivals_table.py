"""The table of rivals: all rows measured alike, and compared with graph traversal query by query."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from landmark_retrieval.descriptors import normalize_rows
from landmark_retrieval.evaluation import average_precision
from landmark_retrieval.experiments.rivals import DiffusionConfig, ExpansionRivalConfig
from landmark_retrieval.experiments.rivals.table import RivalsConfig, format_rivals, measure_rivals
from landmark_retrieval.knn import KnnConfig, build_knn_graph

CONFIG = RivalsConfig(
    methods={
        "nothing": ExpansionRivalConfig(query_images=0),
        "diffusion": DiffusionConfig(neighbors=5, query_neighbors=3),
    },
    reference="egt",
)
KNN = KnnConfig(k=30)


def collection(queries: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Return 24 images of 4 places, the first ones queries, and noisy unit vectors."""
    random = np.random.default_rng(5)
    places = np.arange(24) % 4
    vectors = random.normal(size=(4, 5))[places] + 0.7 * random.normal(size=(24, 5))
    images = pd.DataFrame(
        {
            "image_id": [f"i{number}" for number in range(24)],
            "split": ["query"] * queries + ["index"] * (24 - queries),
            "landmark_id": pd.array(places, dtype="Int64"),
            "usage": None,
        }
    )
    return images, normalize_rows(vectors)


@pytest.mark.parametrize("queries", [4, 0])
def test_rows_are_measured_alike(queries: int) -> None:
    """A rival that changes nothing scores as the neighbours do, also where images are asked themselves."""
    images, matrix = collection(queries)
    asked, index = (matrix[:queries], matrix[queries:]) if queries else (matrix, matrix)
    graph = build_knn_graph(matrix[:queries], index, KNN)
    plain = graph.asked.neighbors
    reversed_lists = plain[:, ::-1].copy()
    table = measure_rivals(
        images, matrix, graph, {"blend": plain, "egt": reversed_lists}, CONFIG, KNN
    ).set_index("variant")
    assert table.index.tolist() == ["blend", "egt", "nothing", "diffusion"]
    assert table.loc["nothing", "mAP_at_100"] == pytest.approx(table.loc["blend", "mAP_at_100"])
    relevant = [
        np.array([j for j in range(len(index)) if (j + queries) % 4 == i % 4 and (queries or i != j)])
        for i in range(len(asked))
    ]
    gain = np.mean(average_precision(reversed_lists, relevant) - average_precision(plain, relevant))
    assert table.loc["blend", "egt_gain"] == pytest.approx(gain)
    assert table.loc["blend", "egt_gain_low"] <= gain <= table.loc["blend", "egt_gain_high"]
    assert np.isnan(table.loc["egt", "egt_gain"])
    text = format_rivals(table.reset_index(), "places", "egt")
    assert f"{100 * table.loc['diffusion', 'mAP_at_100']:.2f}" in text


def test_without_truth_there_are_rankings_only() -> None:
    """A folder without labels is no error."""
    images, matrix = collection(4)
    images["landmark_id"] = pd.array([None] * 24, dtype="Int64")
    graph = build_knn_graph(matrix[:4], matrix[4:], KNN)
    table = measure_rivals(images, matrix, graph, {"blend": graph.queries.neighbors}, CONFIG, KNN)
    assert table["variant"].tolist() == ["blend", "nothing", "diffusion"]
    assert "mAP_at_100" not in table
    assert "diffusion" in format_rivals(table, "places", "egt")

"""The stages of calibrated evidence on the artifacts of a small synthetic collection."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest

from landmark_retrieval.graph.egt import EgtConfig
from landmark_retrieval.graph.label_evidence import LEAST_LANDMARKS, own_similarity
from landmark_retrieval.graph.label_ranking import rank_by_labels
from landmark_retrieval.graph.trusted import rank_trusted
from landmark_retrieval.knn import KnnConfig, KnnGraph, build_knn_graph, search
from landmark_retrieval.retrieval import evidence

KNN = KnnConfig(k=20)
NOTHING = pd.DataFrame({"row_a": [], "row_b": []}, dtype=np.int64).assign(probability=np.zeros(0, np.float32))


class Collection:
    """Landmarks are directions; some have no train photos, some index photos are of no landmark."""

    def __init__(self, labelled=8, unlabelled=3, seed=0, d=64):
        rng = np.random.default_rng(seed)
        centres = rng.normal(size=(labelled + unlabelled, d))

        def photos(count, landmarks):
            truth = np.repeat(np.arange(landmarks), count)
            x = centres[truth] + 0.9 * rng.normal(size=(len(truth), d))
            return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), truth

        self.queries, self.of_query = photos(2, labelled + unlabelled)
        self.index, self.of_index = photos(10, labelled + unlabelled)
        self.train, labels = photos(4, labelled)
        self.train_labels = 100 + labels  # names of landmarks are not their numbers
        self.labelled = labelled
        self.graph: KnnGraph = build_knn_graph(self.queries, self.index, KNN)
        config = KNN.model_copy(update={"k": min(evidence.TRAIN_NEIGHBORS, len(self.train))})
        self.asked, self.near = (search(x, self.train, config) for x in (self.queries, self.index))

    def weigh(self, graph=None, asked=None):
        return evidence.weigh_labels(
            graph or self.graph,
            NOTHING,
            asked or self.asked,
            self.near,
            self.index,
            self.train,
            self.train_labels,
            0.9,
            KNN,
        )


def test_labels_have_the_names_of_landmarks_and_unlabelled_photos_none():
    data = Collection()
    labels = data.weigh()
    assert labels.fitted and labels.model.landmarks == data.labelled
    given = labels.index.given(0.9)
    known = data.of_index < data.labelled
    assert (given == 100 + data.of_index)[given >= 0].mean() > 0.9
    assert (given[~known] >= 0).mean() < 0.1
    assert (labels.index.given(0.5)[known] >= 0).mean() > 0.5


def test_the_bridge_names_the_nearest_train_photo_of_the_given_label():
    data = Collection()
    labels = data.weigh()
    bridge = evidence.bridge_of(labels, data.asked, data.near, data.train_labels, 0.9)
    similarity = data.index @ data.train.T
    for row in np.flatnonzero(bridge.index.label >= 0):
        mine = np.flatnonzero(data.train_labels == bridge.index.label[row])
        assert bridge.index.train_row[row] == mine[similarity[row, mine].argmax()]
        assert bridge.index.similarity[row] == pytest.approx(similarity[row, mine].max(), abs=1e-5)
    none = bridge.index.label < 0
    assert (bridge.index.train_row[none] == -1).all()
    assert np.isneginf(bridge.index.similarity[none]).all()


def test_labels_put_right_photos_first_and_do_not_harm_queries_without():
    data = Collection()
    labels = data.weigh()
    own = np.full(len(data.queries), -1)
    edges = evidence.trusted_edges(NOTHING, data.graph, 0.9)
    plain = rank_trusted(
        *edges, data.graph.queries, data.queries, data.index, EgtConfig(p=20, threads=1), own
    )
    np.testing.assert_array_equal(plain.ranking, data.graph.queries.neighbors)
    found = rank_by_labels(
        plain,
        data.graph.queries,
        own_similarity(data.graph.queries.weights),
        labels.asked,
        labels.index,
        labels.model,
        data.queries,
        data.index,
        0.9,
    )
    known = data.of_query < data.labelled

    def precision(ranking):
        return (data.of_index[ranking[:, :10]] == data.of_query[:, None]).mean(axis=1)

    assert precision(found.ranking)[known].mean() >= precision(plain.ranking)[known].mean()
    assert precision(found.ranking)[~known].mean() >= precision(plain.ranking)[~known].mean() - 0.02


def test_photos_asked_about_themselves_are_weighed_as_the_index():
    data = Collection()
    among = build_knn_graph(data.index[:0], data.index, KNN)
    labels = data.weigh(among, data.near)
    np.testing.assert_array_equal(labels.asked.labels, labels.index.labels)
    np.testing.assert_array_equal(labels.asked.none, labels.index.none)


def test_too_few_landmarks_stay_out_and_one_line_says_so(caplog):
    data = Collection(labelled=LEAST_LANDMARKS - 1)
    with caplog.at_level(logging.INFO):
        labels = data.weigh()
    assert not labels.fitted
    assert (labels.index.given(0.01) == -1).all()
    assert [record.message for record in caplog.records if "Label bridges stay out" in record.message]


def test_trusted_edges_are_those_of_the_photos_that_are_asked():
    data = Collection()
    first = len(data.queries)
    pairs = pd.DataFrame({"row_a": [0, first], "row_b": [first + 3, first + 5]})
    pairs["probability"] = np.float32([0.95, 0.99])
    asked, index = evidence.trusted_edges(pairs, data.graph, 0.9)
    assert asked.neighbors(0)[0].tolist() == [3]
    assert index.neighbors(0)[0].tolist() == [5]
    assert index.neighbors(5)[0].tolist() == [0]

"""Edges of trusted paths in table rows."""

from __future__ import annotations

import numpy as np

from landmark_retrieval.graph import LabelBridge, PathStep, Step, Votes, explain_edge
from landmark_retrieval.graph.kernel import LABEL_EDGE, SIMILARITY_EDGE

BRIDGE = LabelBridge(
    queries=Votes(np.array([7]), np.array([1], np.int32), np.array([0.5], np.float32)),
    index=Votes(np.array([-1, 7]), np.array([-1, 1], np.int32), np.array([-np.inf, 0.25], np.float32)),
    train_label=np.array([3, 7]),
)


def test_similarity_edge() -> None:
    edge = PathStep(kind=SIMILARITY_EDGE, source=-1, target=1, weight=0.75)
    assert explain_edge(edge, 0, 10, 20, BRIDGE, {}) == Step(11, False, 0.75)


def test_label_edge_through_one_training_image() -> None:
    edge = PathStep(kind=LABEL_EDGE, source=-1, target=1, weight=np.inf)
    expected = Step(11, True, np.inf, [21], [0.5, 0.25], "mill")
    assert explain_edge(edge, 0, 10, 20, BRIDGE, {7: "mill"}) == expected
    assert explain_edge(edge, 0, 10, 20, BRIDGE, {}).label == "7"
    assert explain_edge(edge, 0, 10, 20, None, {}) == Step(11, True, np.inf)

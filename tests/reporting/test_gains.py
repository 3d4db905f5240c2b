"""The result that explains a change, on rankings small enough to read."""

from __future__ import annotations

import numpy as np

from landmark_retrieval.graph.egt import Traversal
from landmark_retrieval.reporting.gains import largest_gains

RELEVANT = [np.array([3, 4]), np.array([0]), np.array([1])]
BEFORE = np.array([[0, 1, 3, 4], [0, 1, 2, 3], [1, 0, 2, 3]], np.int32)
AFTER = np.array([[0, 3, 4, 1], [2, 0, 1, 3], [1, 0, 2, 3]], np.int32)
SCORES = [np.array([0.3, 1.0, 1.0]), np.array([0.5, 0.5, 1.0])]


def traversal():
    return Traversal(
        AFTER,
        np.float32([[0.9, 0.95, 0.91, 0.2], [0.4, 0.3, 0.2, 0.1], [0.9] * 4]),
        np.int32([[-1, -1, 3, -1], [-1, 2, -1, -1], [-1] * 4]),
        np.int8([[3, 3, 3, 1], [2, 1, 1, 1], [1] * 4]),
    )


def test_gains_and_losses_with_what_did_it():
    rankings = {"blend": BEFORE, "egt": AFTER}
    gain, loss = largest_gains(rankings, SCORES, RELEVANT, {"egt": traversal()}, {})
    assert (gain.variant, gain.query, gain.row) == ("egt", 0, 3)
    assert (gain.rank_before, gain.rank_after) == (3, 2)
    assert gain.reason == "verified against the query, P(same place) = 0.950"
    # The wrong photo 2 came first, by a label.
    assert (loss.query, loss.row, loss.rank_before, loss.rank_after) == (1, 2, 3, 1)
    assert loss.reason == "a label that both have"
    assert (loss.before, loss.after) == (1.0, 0.5)


def test_without_a_traversal_inliers_or_similarity_did_it():
    rankings = {"blend": BEFORE, "blend_qe_sv": AFTER}
    gain, loss = largest_gains(rankings, SCORES, RELEVANT, {}, {(0, 3): 40})
    assert gain.reason.startswith("40 inliers")
    assert loss.reason == "similarity of the expanded descriptors"


def test_paths_are_told_by_their_edges():
    rankings = {"blend": BEFORE[:, [0, 1, 2]], "egt": AFTER}
    scores = [np.array([0.1, 0.5, 1.0]), np.array([0.5, 0.5, 1.0])]
    relevant = [np.array([4]), np.array([0]), np.array([1])]
    (gain,) = largest_gains(rankings, scores, relevant, {"egt": traversal()}, {})
    assert gain.row == 4
    assert gain.rank_before is None
    assert gain.reason == "a path over 2 verified edges, worth 0.910"


def test_queries_that_did_not_change_or_have_no_answer_are_left_out():
    scores = [np.array([np.nan, 1.0, 1.0]), np.array([np.nan, 1.0, 1.0])]
    assert largest_gains({"a": BEFORE, "b": AFTER}, scores, RELEVANT, {}, {}) == []

"""The stages of calibrated evidence on the artifacts of a run: trusted paths, and labels behind them."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from landmark_retrieval.graph.graph import CsrGraph
from landmark_retrieval.graph.label_bridge import NO_LABEL, LabelBridge, Votes
from landmark_retrieval.graph.label_evidence import (
    LEAST_LANDMARKS,
    NEAREST,
    NO_MODEL,
    LabelEvidence,
    LabelModel,
    LabelPosterior,
    fit_labels,
    infer_labels,
    no_labels,
    own_similarity,
    photos_for_fit,
)
from landmark_retrieval.graph.trusted import trusted_share, verified_graphs
from landmark_retrieval.knn import KnnConfig, KnnGraph, NeighborLists, search

logger = logging.getLogger(__name__)

TRAIN_NEIGHBORS = 100
"""Nearest train photos of a photo that its labels are inferred from."""


def trusted_edges(pairs: pd.DataFrame, graph: KnnGraph, trust: float) -> tuple[CsrGraph, CsrGraph]:
    """Return the trusted edges of the photos that are asked, and those of the index photos.

    Args:
        pairs: `row_a`, `row_b`, `probability` of all tried pairs.
        graph: neighbours of queries and index photos.
        trust: least probability of an edge.
    """
    queries, index = verified_graphs(
        pairs["row_a"],
        pairs["row_b"],
        pairs["probability"].to_numpy(),
        len(graph.queries),
        len(graph.index),
        trust,
    )
    return (queries if len(graph.queries) else index), index


def weigh_labels(
    graph: KnnGraph,
    pairs: pd.DataFrame,
    asked: NeighborLists,
    index: NeighborLists,
    index_descriptors: NDArray[Any],
    train_descriptors: NDArray[Any],
    train_labels: NDArray[np.int64],
    trust: float,
    knn: KnnConfig,
) -> LabelEvidence:
    """Fit what labels prove on the train split, and infer the labels of all photos.

    Args:
        graph: neighbours of the expanded descriptors.
        pairs: `row_a`, `row_b`, `probability` of all tried pairs.
        asked: `[q, k]` train photos nearest to each photo that is asked.
        index: `[n, k]` train photos nearest to each index photo.
        index_descriptors: `[n, d]` expanded descriptors.
        train_descriptors: `[t, d]`.
        train_labels: int64 `[t]` landmark of each train photo, -1 for none.
        trust: probability from which an edge is trusted.
        knn: parameters of searches.

    Returns:
        Posteriors; those of nobody where the labels are too few to fit, and a log line says so.
    """
    _, labels = _numbered(train_labels)
    rows = photos_for_fit(labels)
    landmarks = len(np.unique(labels[rows]))
    nobody = LabelEvidence(no_labels(len(asked.neighbors)), no_labels(len(index.neighbors)), NO_MODEL)
    if landmarks < LEAST_LANDMARKS or len(index.neighbors) == 0:
        logger.info(
            "Label bridges stay out: %d landmarks have two train images or more, it takes %d to tell what "
            "labels prove; the ranking is the one before.",
            landmarks,
            LEAST_LANDMARKS,
        )
        return nobody
    fitted = np.asarray(train_descriptors[rows], np.float32)
    own = own_similarity(graph.index.weights)

    def nearest(others: NDArray[Any], k: int, itself: NDArray[np.int64] | None = None) -> NeighborLists:
        most = len(others) - (itself is not None)
        config = knn.model_copy(update={"k": max(1, min(k, most)), "approximate": None})
        return search(fitted, others, config, itself, "label evidence")

    model = fit_labels(
        labels,
        nearest(train_descriptors, TRAIN_NEIGHBORS, rows),
        nearest(index_descriptors, NEAREST),
        index,
        own,
        fitted @ fitted.T,
        rows,
        trusted_share(trusted_edges(pairs, graph, trust)[1]),
    )
    if model is None:
        return nobody

    return LabelEvidence(
        label_posterior(asked, own_similarity(graph.asked.weights), train_labels, model),
        label_posterior(index, own, train_labels, model),
        model,
    )


def label_posterior(
    nearest: NeighborLists, own: NDArray[np.float32], train_labels: NDArray[np.int64], model: LabelModel
) -> LabelPosterior:
    """Return P(landmark | photo) of photos by their nearest train photos (`infer_labels`).

    Args:
        nearest: `[n, k]` train photos nearest to each photo.
        own: float32 `[n]` similarity to its own three nearest index photos.
        train_labels: int64 `[t]` landmark of each train photo, -1 for none.
        model: of `weigh_labels`.
    """
    names, labels = _numbered(train_labels)
    found = infer_labels(nearest, own, labels, model)
    return LabelPosterior(
        np.where(found.labels >= 0, names[found.labels], NO_LABEL), found.probabilities, found.none
    )


def bridge_of(
    evidence: LabelEvidence,
    asked: NeighborLists,
    index: NeighborLists,
    train_labels: NDArray[np.int64],
    trust: float,
) -> LabelBridge:
    """Return the labels that evidence gives with a probability, and the train photo that stands for each.

    Args:
        evidence: of `weigh_labels`.
        asked: `[q, k]` train photos nearest to each photo that is asked.
        index: `[n, k]` train photos nearest to each index photo.
        train_labels: int64 `[t]` landmark of each train photo, -1 for none.
        trust: least probability of a label.
    """
    return LabelBridge(
        given_labels(evidence.asked.given(trust), asked, train_labels),
        given_labels(evidence.index.given(trust), index, train_labels),
        np.asarray(train_labels, np.int64),
    )


def given_labels(labels: NDArray[np.int64], nearest: NeighborLists, train_labels: NDArray[np.int64]) -> Votes:
    """Return labels, int64 `[n]` and -1 for none, with the most similar train photo of each."""
    rows = np.full(len(labels), -1, np.int32)
    similarity = np.full(len(labels), -np.inf, np.float32)
    near = np.append(train_labels, NO_LABEL)[nearest.neighbors]
    fits = (near == labels[:, None]) & (labels != NO_LABEL)[:, None]
    found = np.flatnonzero(fits.any(axis=1))
    column = fits[found].argmax(axis=1)
    rows[found], similarity[found] = nearest.neighbors[found, column], nearest.weights[found, column]
    return Votes(labels, rows, similarity)


def _numbered(train_labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the landmarks of train photos, ascending, and the number of each photo's, -1 for none."""
    known = train_labels != NO_LABEL
    names, numbers = np.unique(train_labels[known], return_inverse=True)
    labels = np.full(len(train_labels), NO_LABEL, np.int64)
    labels[known] = numbers
    return names.astype(np.int64), labels

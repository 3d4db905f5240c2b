"""Nodes of the nearest_expansion pipeline."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd

from landmark_retrieval.collection import SplitRows
from landmark_retrieval.descriptors import Descriptors
from landmark_retrieval.descriptors.matrix import join_rows
from landmark_retrieval.knn import KnnGraph
from landmark_retrieval.retrieval.stages import Verified, expand
from landmark_retrieval.verification import ExpansionConfig

logger = logging.getLogger(__name__)

NOT_TRIED = pd.DataFrame({"row_a": [], "row_b": [], "inliers": []}, dtype="int64")
"""The verified pairs of images without local features."""


def compare_nothing(graph: KnnGraph) -> pd.DataFrame:
    """Return the probabilities of no pairs: without local features none is compared."""
    return NOT_TRIED[["row_a", "row_b"]].assign(probability=np.zeros(0, np.float32))


def expand_descriptors(
    descriptors: Descriptors, graph: KnnGraph, images: pd.DataFrame, expansion: ExpansionConfig
) -> Descriptors:
    """Average every descriptor with those of its nearest neighbours; train rows stay."""
    logger.info("no local features: the %d nearest images expand a descriptor unverified", expansion.images)
    if expansion.method == "inlier_weighted":
        expansion = expansion.model_copy(update={"method": "average"})
    nearest = expansion.model_copy(update={"selection": "nearest"})
    rows = SplitRows.from_table(images)
    queries, index = descriptors.part(rows.query), descriptors.part(rows.index)
    verified = Verified(NOT_TRIED, len(queries), candidates=0, floors=(1, 1))
    dtype = descriptors.matrix.dtype
    after = (
        expand(queries, index, graph.queries, verified, nearest, dtype=dtype),
        expand(index, index, graph.index, verified, nearest, of_index=True, dtype=dtype),
    )
    return Descriptors(descriptors.ids, join_rows([*after, descriptors.part(rows.train)]))

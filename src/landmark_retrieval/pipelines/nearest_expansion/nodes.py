"""Nodes of the nearest_expansion pipeline."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pandas as pd

from landmark_retrieval.collection import SplitRows
from landmark_retrieval.descriptors import Descriptors
from landmark_retrieval.descriptors.matrix import join_rows
from landmark_retrieval.knn import KnnGraph
from landmark_retrieval.retrieval.stages import NOT_TRIED, expand, not_verified
from landmark_retrieval.verification import ExpansionConfig

logger = logging.getLogger(__name__)


def compare_nothing(graph: KnnGraph) -> tuple[pd.DataFrame, dict[str, Any], pd.DataFrame]:
    """Return no pairs, no fits and the probabilities of no pairs: without local features none is compared."""
    probabilities = NOT_TRIED[["row_a", "row_b"]].assign(probability=np.zeros(0, np.float32))
    return NOT_TRIED, {}, probabilities


def expand_descriptors(
    descriptors: Descriptors, graph: KnnGraph, images: pd.DataFrame, expansion: ExpansionConfig
) -> Descriptors:
    """Average every descriptor with those of its nearest neighbours; train rows stay."""
    logger.info("no local features: the %d nearest images expand a descriptor unverified", expansion.images)
    nearest = expansion.by_nearest()
    rows = SplitRows.from_table(images)
    queries, index = descriptors.part(rows.query), descriptors.part(rows.index)
    verified = not_verified(len(queries))
    dtype = descriptors.matrix.dtype
    after = (
        expand(queries, index, graph.queries, verified, nearest, dtype=dtype),
        expand(index, index, graph.index, verified, nearest, of_index=True, dtype=dtype),
    )
    return Descriptors(descriptors.ids, join_rows([*after, descriptors.part(rows.train)]))

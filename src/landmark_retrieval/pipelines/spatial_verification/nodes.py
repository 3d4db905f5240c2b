"""Nodes of the spatial_verification pipeline."""

from __future__ import annotations

import numpy as np
import pandas as pd

from landmark_retrieval.data_sets import SplitRows
from landmark_retrieval.descriptors import Descriptors
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.knn import KnnGraph
from landmark_retrieval.local_features import LocalFeatureStore
from landmark_retrieval.sharding import ExecutorConfig, ShardPlan, ShardStore
from landmark_retrieval.verification import (
    ExpansionConfig,
    VerificationConfig,
    candidate_pairs,
    collect_pairs,
    expand_queries_and_index,
    floor_of,
    plan_verification,
)


def verify_candidates(
    graph: KnnGraph,
    images: pd.DataFrame,
    local_features: ShardStore,
    config: VerificationConfig,
    expansion: ExpansionConfig,
    executor: ExecutorConfig,
) -> ShardPlan:
    """Plan the verification of the top neighbours of every query and index image, each pair once."""
    features = LocalFeatureStore(local_features)
    if features.images != len(images):
        raise LandmarkRetrievalError(
            f"local features are those of {features.images} images, the image table has {len(images)}; "
            "run `kedro run --pipelines features` again"
        )
    index_neighbors = graph.index_neighbors if expansion.database_side else graph.index_neighbors[:0]
    pairs = candidate_pairs(graph.query_neighbors, index_neighbors, config.candidates)
    return plan_verification(pairs, features, config, executor)


def collect_verified_pairs(shards: ShardStore) -> pd.DataFrame:
    """Return one row per verified pair with its inliers and homography."""
    return collect_pairs(shards)


def expand_descriptors(
    descriptors: Descriptors,
    graph: KnnGraph,
    pairs: pd.DataFrame,
    shards: ShardStore,
    images: pd.DataFrame,
    verification: VerificationConfig,
    expansion: ExpansionConfig,
) -> Descriptors:
    """Average every descriptor with those of its most reliable verified neighbours; train rows stay."""
    rows = SplitRows.from_table(images)
    queries, index = expand_queries_and_index(
        descriptors.matrix[rows.query],
        descriptors.matrix[rows.index],
        graph.query_neighbors,
        graph.query_weights,
        graph.index_neighbors,
        graph.index_weights,
        pairs,
        expansion,
        verification.candidates,
        floor_of(shards),
    )
    return Descriptors(descriptors.ids, np.concatenate([queries, index, descriptors.matrix[rows.train]]))

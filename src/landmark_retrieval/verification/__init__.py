"""Spatial verification of image pairs and query expansion on verified images."""

from landmark_retrieval.verification.expansion import ExpansionConfig, expand, expand_queries_and_index
from landmark_retrieval.verification.matching import MatchingConfig, match
from landmark_retrieval.verification.pairs import (
    VerificationConfig,
    candidate_pairs,
    collect_pairs,
    correspondences,
    floor_of,
    pair_seed,
    plan_verification,
)
from landmark_retrieval.verification.ransac import RansacConfig, estimate_homography
from landmark_retrieval.verification.rerank import neighbor_inliers, rerank

__all__ = [
    "ExpansionConfig",
    "MatchingConfig",
    "RansacConfig",
    "VerificationConfig",
    "candidate_pairs",
    "collect_pairs",
    "correspondences",
    "estimate_homography",
    "expand",
    "expand_queries_and_index",
    "floor_of",
    "match",
    "neighbor_inliers",
    "pair_seed",
    "plan_verification",
    "rerank",
]

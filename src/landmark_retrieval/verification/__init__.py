"""Spatial verification of image pairs and query expansion on verified images."""

from landmark_retrieval.verification.expansion import ExpansionConfig, expand
from landmark_retrieval.verification.matching import MatchingConfig, match
from landmark_retrieval.verification.one_pair import correspondences, pair_seed
from landmark_retrieval.verification.pairs import (
    VerificationConfig,
    candidate_pairs,
    pair_keys,
    pair_parameters,
    verify_pairs,
)
from landmark_retrieval.verification.ransac import RansacConfig, estimate_homography
from landmark_retrieval.verification.rerank import neighbor_inliers, rerank

__all__ = [
    "ExpansionConfig",
    "MatchingConfig",
    "RansacConfig",
    "VerificationConfig",
    "candidate_pairs",
    "correspondences",
    "estimate_homography",
    "expand",
    "match",
    "neighbor_inliers",
    "pair_keys",
    "pair_parameters",
    "pair_seed",
    "rerank",
    "verify_pairs",
]

"""Re-rankers of the literature, each from its paper, to be measured beside graph traversal."""

from landmark_retrieval.experiments.rivals.config import (
    DiffusionConfig,
    ExpansionRivalConfig,
    KReciprocalConfig,
    RivalConfig,
)
from landmark_retrieval.experiments.rivals.diffusion import diffusion_graph, rank_by_diffusion
from landmark_retrieval.experiments.rivals.expansion import augment_database, expand_queries
from landmark_retrieval.experiments.rivals.k_reciprocal import rank_by_k_reciprocal
from landmark_retrieval.experiments.rivals.rank import rank_by

__all__ = [
    "DiffusionConfig",
    "ExpansionRivalConfig",
    "KReciprocalConfig",
    "RivalConfig",
    "augment_database",
    "diffusion_graph",
    "expand_queries",
    "rank_by",
    "rank_by_diffusion",
    "rank_by_k_reciprocal",
]

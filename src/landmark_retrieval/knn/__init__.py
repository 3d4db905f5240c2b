"""Nearest neighbours by inner product: exact or approximate, on CPU or GPUs, in bounded memory, resumable."""

from landmark_retrieval.knn.config import ApproximateConfig, KnnConfig
from landmark_retrieval.knn.neighbors import KnnGraph, NeighborLists
from landmark_retrieval.knn.plan import gather, gather_graph, plan_knn, plan_knn_graph
from landmark_retrieval.knn.recall import recall_against_exact
from landmark_retrieval.knn.search import build_knn_graph, search

__all__ = [
    "ApproximateConfig",
    "KnnConfig",
    "KnnGraph",
    "NeighborLists",
    "build_knn_graph",
    "gather",
    "gather_graph",
    "plan_knn",
    "plan_knn_graph",
    "recall_against_exact",
    "search",
]

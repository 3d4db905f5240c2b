"""k-NN graph: the exact nearest neighbours of every query and index image by inner product."""

from landmark_retrieval.pipelines.knn_graph.pipeline import create_pipeline

__all__ = ["create_pipeline"]

"""Explore-exploit graph traversal, plain and bridged by the labels of a training set."""

from landmark_retrieval.pipelines.egt.pipeline import create_pipeline

__all__ = ["create_pipeline"]

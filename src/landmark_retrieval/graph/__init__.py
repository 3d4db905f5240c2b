"""The k-NN graph and its traversal: EGT, label bridges to train images, trusted paths."""

from landmark_retrieval.graph.egt import EgtConfig, PathStep, Traversal, explore_exploit, trusted_path
from landmark_retrieval.graph.explain import Step, explain_edge
from landmark_retrieval.graph.graph import CsrGraph, symmetrize
from landmark_retrieval.graph.label_bridge import (
    LabelBridge,
    LabelBridgeConfig,
    Votes,
    build_label_bridge,
    explore_exploit_with_labels,
    label_hubs,
    label_path,
    vote_labels,
)
from landmark_retrieval.graph.settings import TraversalConfig, settle

__all__ = [
    "CsrGraph",
    "EgtConfig",
    "LabelBridge",
    "LabelBridgeConfig",
    "PathStep",
    "Step",
    "Traversal",
    "TraversalConfig",
    "Votes",
    "build_label_bridge",
    "explain_edge",
    "explore_exploit",
    "explore_exploit_with_labels",
    "label_hubs",
    "label_path",
    "settle",
    "symmetrize",
    "trusted_path",
    "vote_labels",
]

"""Local features: keypoints and descriptors of DELF, ALIKED, DISK, XFeat or RootSIFT behind one interface."""

from landmark_retrieval.local_features.attention import AttentionHead, load_attention, save_attention
from landmark_retrieval.local_features.base import LocalFeatureExtractor, LocalFeatures
from landmark_retrieval.local_features.config import LocalFeaturesConfig
from landmark_retrieval.local_features.extraction import (
    StoredFeatures,
    build_extractor,
    extract_features,
    extract_local_features,
    local_parameters,
)
from landmark_retrieval.local_features.pca import fit_local_pca, learn_local_pca
from landmark_retrieval.local_features.store import LocalFeatureStore

__all__ = [
    "AttentionHead",
    "LocalFeatureExtractor",
    "LocalFeatureStore",
    "LocalFeatures",
    "LocalFeaturesConfig",
    "StoredFeatures",
    "build_extractor",
    "extract_features",
    "extract_local_features",
    "fit_local_pca",
    "learn_local_pca",
    "load_attention",
    "local_parameters",
    "save_attention",
]

"""Global descriptors: GeM and DIR (R-MAC), whitening, multi-scale extraction, blending."""

from landmark_retrieval.descriptors.backbones import Backbone, BackboneConfig, build_backbone
from landmark_retrieval.descriptors.config import DESCRIPTORS, GlobalDescriptorConfig
from landmark_retrieval.descriptors.extraction import (
    build_model,
    describe_images,
)
from landmark_retrieval.descriptors.matrix import (
    BlendConfig,
    BlockArray,
    Descriptors,
    blend,
    check_ids,
    gather_results,
    map_blocks,
    normalize_rows,
    take_rows,
)
from landmark_retrieval.descriptors.model import DescriptorModel, whitening_layer
from landmark_retrieval.descriptors.pooling import RMAC, GeM, PoolingConfig, build_pooling
from landmark_retrieval.descriptors.stored import (
    RawDescriptors,
    describe_photos,
    descriptor_parameters,
    learn_region_whitening,
)
from landmark_retrieval.descriptors.whitening import (
    RegionWhiteningConfig,
    Whitening,
    WhiteningConfig,
    apply_whitening,
    fit_whitening,
    learn_whitening,
    whiten_rows,
    whitening_rows,
)

__all__ = [
    "DESCRIPTORS",
    "RMAC",
    "Backbone",
    "BackboneConfig",
    "BlendConfig",
    "BlockArray",
    "DescriptorModel",
    "Descriptors",
    "GeM",
    "GlobalDescriptorConfig",
    "PoolingConfig",
    "RawDescriptors",
    "RegionWhiteningConfig",
    "Whitening",
    "WhiteningConfig",
    "apply_whitening",
    "blend",
    "build_backbone",
    "build_model",
    "build_pooling",
    "check_ids",
    "describe_images",
    "describe_photos",
    "descriptor_parameters",
    "fit_whitening",
    "gather_results",
    "learn_region_whitening",
    "learn_whitening",
    "map_blocks",
    "normalize_rows",
    "take_rows",
    "whiten_rows",
    "whitening_layer",
    "whitening_rows",
]

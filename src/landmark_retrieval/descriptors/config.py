"""Parameters of a global descriptor, from pixels to the stored matrix."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, model_validator

from landmark_retrieval.configuration import Configuration, Scale, ShardSize
from landmark_retrieval.descriptors.backbones import BackboneConfig
from landmark_retrieval.descriptors.pooling import PoolingConfig
from landmark_retrieval.descriptors.whitening import RegionWhiteningConfig, WhiteningConfig

DESCRIPTORS = ("gem", "dir")
"""Global descriptors that make the blend; each name is a namespace and a group of parameters."""


class GlobalDescriptorConfig(Configuration):
    """How images become global descriptors.

    Attributes:
        backbone: network and weights.
        pooling: GeM or R-MAC.
        region_whitening: the network's last, linear layer, learned from regions: it whitens each region of
            R-MAC before they are added, or the one vector of GeM; None leaves it out.
        whitening: whitening of the finished descriptor over all scales; None leaves it out.
        max_side: long side of the image in pixels at scale 1; larger images are shrunk, smaller stay.
        size_multiple: both sides are rounded to multiples of this many pixels, so that images of nearly the
            same shape share a batch; 1 keeps exact sizes.
        scales: factors of `max_side` at which every image is described.
        keep_regions: keep of every image what the network gives before the whitening layer, in float16 (0.1
            to 0.3 MB an image), where the layer is learned on the collection: images that are added move the
            layer, and no image then needs the network again. False keeps it only of the images that the layer
            is learned on, for collections with a large train split.
        scale_power: exponent of the generalised mean over scales; 1 is the average.
        batch_size: images of one shape in a batch; None takes 32 on a GPU and 4 on a CPU, whose cache larger
            batches leave.
        shard_size: images in a shard (what is lost at most by a kill); None takes 1024 on a GPU and 64 on a
            CPU.
        device: `auto` takes the GPU when there is one; else a torch device.
        precision: precision of the network's arithmetic; `auto` is float32 on a CPU, and on a GPU tf32 or
            float16, whichever is faster for a shape of input (measured while it runs).
        storage: number type of the stored matrix.
        trained: take network, power and whitening layer from `trained_file` instead of `backbone.weights`.
        trained_file: what the training pipeline or `kedro convert-checkpoint` wrote.
    """

    backbone: BackboneConfig = BackboneConfig(name="tf_efficientnet_lite2")
    pooling: PoolingConfig = PoolingConfig()
    region_whitening: RegionWhiteningConfig | None = RegionWhiteningConfig()
    whitening: WhiteningConfig | None = WhiteningConfig()
    keep_regions: bool = True
    max_side: int = Field(default=480, ge=32, le=16_384)
    size_multiple: int = Field(default=16, ge=1, le=512)
    scales: tuple[Scale, ...] = Field(default=(1.0, 1 / math.sqrt(2), math.sqrt(2)), min_length=1)
    scale_power: float = Field(default=1.0, gt=0, le=100)
    batch_size: int | None = Field(default=None, ge=1, le=65_536)
    shard_size: ShardSize | None = None
    device: str = "auto"
    precision: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    storage: Literal["float32", "float16"] = "float32"
    trained: bool = False
    trained_file: str | None = None

    def read_files(self) -> dict[str, str]:
        """Return the files that a run with these options reads, by the names of the options."""
        if self.trained and self.trained_file is not None:
            return {"trained_file": self.trained_file}
        return super().read_files()

    @model_validator(mode="after")
    def _check(self) -> GlobalDescriptorConfig:
        if self.trained and self.trained_file is None:
            raise ValueError("trained: give the file in trained_file")
        if self.region_whitening is not None and self.scale_power != 1:
            raise ValueError("scale_power: whitened values are signed and can only be averaged; set it to 1")
        return self

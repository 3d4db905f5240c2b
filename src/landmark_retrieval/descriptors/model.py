"""Backbone, pooling and whitening layer as one trainable module."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from landmark_retrieval.descriptors.backbones import Backbone
from landmark_retrieval.descriptors.pooling import RMAC, GeM
from landmark_retrieval.descriptors.whitening import Whitening


class DescriptorModel(nn.Module):
    """Images to global descriptors.

    Feature map -> regions (one for GeM) -> L2 -> whitening layer -> L2 -> sum over regions -> L2. With GeM
    this is the network of Radenović et al., with R-MAC the DIR descriptor of Gordo et al. ("End-to-end
    learning of deep visual representations for image retrieval").

    Args:
        backbone: module `[b, 3, h, w]` -> `[b, c, h', w']`.
        pooling: module with `regions`, `[b, c, h', w']` -> `[b, r, c]`.
        whitening: linear layer `[c]` -> `[e]`, or None.
        unit_regions: whether the layer gets vectors of unit length, as in both papers; the linear layers of
            SSCD and DELG get them as they are pooled.
    """

    def __init__(
        self,
        backbone: Backbone,
        pooling: GeM | RMAC,
        whitening: nn.Linear | None = None,
        unit_regions: bool = True,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.pooling = pooling
        self.whitening = whitening
        self.unit_regions = unit_regions

    @property
    def width(self) -> int:
        """Length of the descriptors."""
        return self.backbone.channels if self.whitening is None else self.whitening.out_features

    def regions(self, images: Tensor) -> Tensor:
        """Return the not yet whitened region vectors, `[b, r, c]` float32, of unit length where wanted."""
        regions = self.pooling.regions(self.backbone(images)).float()
        return functional.normalize(regions, dim=-1) if self.unit_regions else regions

    def forward(self, images: Tensor) -> Tensor:
        """Describe normalised images `[b, 3, h, w]` by unit vectors `[b, e]` float32."""
        regions = self.regions(images)
        if self.whitening is not None:
            with torch.autocast(images.device.type, enabled=False):
                regions = functional.normalize(self.whitening(regions), dim=-1)
        return functional.normalize(regions.sum(dim=1), dim=-1)


def whitening_layer(whitening: Whitening) -> nn.Linear | None:
    """Return a learned whitening as a linear layer that can be trained further; None for "no whitening"."""
    if whitening.is_none:
        return None
    projection = torch.from_numpy(whitening.projection.copy())
    layer = nn.Linear(projection.shape[0], projection.shape[1])
    with torch.no_grad():
        layer.weight.copy_(projection.T)
        layer.bias.copy_(-torch.from_numpy(whitening.mean.copy()) @ projection)
    return layer

"""Pooling of feature maps: GeM and R-MAC, with average and maximum pooling as special cases.

Every pooling module has `regions(features)`: `[b, c, h, w]` -> `[b, r, c]`, the unnormalised vectors of r
regions. GeM has one region, the whole map.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from landmark_retrieval.configuration import Configuration

EPSILON = 1e-6
"""Floor of activations before raising them to a power (Radenović's implementation uses the same)."""


class PoolingConfig(Configuration):
    """How a feature map becomes one vector.

    Attributes:
        kind: `gem` pools the whole map; `rmac` pools square regions on a grid and adds their normalised
            (and whitened) vectors, which is the DIR descriptor's aggregation.
        power: exponent p of the generalised mean in the map or in each region: 1 is the average, 3 where
            training starts in Radenović et al. (2 suits untrained networks better), None the maximum (R-MAC
            as published).
    """

    kind: Literal["gem", "rmac"] = "gem"
    power: float | None = Field(default=2.0, gt=0, le=100)


class Region(NamedTuple):
    """A rectangle of a feature map, in cells."""

    top: int
    left: int
    height: int
    width: int


def gem(features: Tensor, power: Tensor | float | None, eps: float = EPSILON) -> Tensor:
    """Generalised-mean pooling, `(mean x^p)^(1/p)` over the last two axes.

    Radenović, Tolias, Chum: "Fine-tuning CNN image retrieval with no human annotation", eq. 3.

    Args:
        features: `[..., h, w]`; values below `eps` count as `eps` unless the power is 1 or None.
        power: p; 1 gives the average, None the maximum. Differentiable when a tensor.
        eps: floor of the activations.

    Returns:
        `[...]`
    """
    if power is None:
        return features.amax(dim=(-2, -1))
    if not isinstance(power, Tensor) and power == 1:
        return features.mean(dim=(-2, -1))
    # In float32 even under autocast: a power of 3 leaves the range of half precision.
    with torch.autocast(features.device.type, enabled=False):
        clamped = features.float().clamp(min=eps)
        return clamped.pow(power).mean(dim=(-2, -1)).pow(1.0 / power)


@lru_cache(maxsize=4096)
def region_grid(height: int, width: int, levels: int = 3, overlap: float = 0.4) -> tuple[Region, ...]:
    """Return the square regions of R-MAC on a feature map.

    Tolias, Sicre, Jégou: "Particular object retrieval with integral max-pooling of CNN activations",
    section 3.2: at level l the side is `2 min(W, H) / (l + 1)`; the short axis holds l regions, the long
    axis l + m - 1, where m in 2..7 brings the overlap of neighbours at level 1 closest to `overlap`
    (m = 1 on square maps). Positions are rounded down as in the authors' program.

    Args:
        height: rows of the map.
        width: columns of the map.
        levels: number of levels L.
        overlap: wanted overlap of neighbouring regions at level 1.

    Returns:
        Regions level by level, each from top to bottom and left to right; levels whose side would be below
        one cell are left out.
    """
    side = min(height, width)
    extra = 0
    if height != width:
        steps = range(2, 8)
        # In exact arithmetic, so that ties go to fewer regions everywhere.
        uncovered = Fraction(max(height, width) - side, side)
        wanted = Fraction(str(overlap))
        gaps = [abs(1 - uncovered / (m - 1) - wanted) for m in steps]
        extra = gaps.index(min(gaps)) + 1
    regions = []
    for level in range(1, levels + 1):
        size = 2 * side // (level + 1)
        if size == 0:
            break
        rows = _positions(height, size, level + (extra if height > width else 0))
        columns = _positions(width, size, level + (extra if width > height else 0))
        regions += [Region(top, left, size, size) for top in rows for left in columns]
    return tuple(regions)


def _positions(length: int, size: int, count: int) -> list[int]:
    """Return where `count` windows start that are spread evenly from end to end."""
    return [i * (length - size) // max(1, count - 1) for i in range(count)]


class GeM(nn.Module):
    """Generalised-mean pooling with a trainable power.

    Args:
        power: initial p; None is maximum pooling (nothing to train).
        trainable: whether p receives gradients.
    """

    def __init__(self, power: float | None = 3.0, trainable: bool = True) -> None:
        super().__init__()
        self.power: nn.Parameter | None = None
        self._fixed = power
        if power is not None and trainable:
            self.power = nn.Parameter(torch.tensor(float(power)))

    def forward(self, features: Tensor) -> Tensor:
        """Pool `[b, c, h, w]` to `[b, c]`."""
        return gem(features, self._fixed if self.power is None else self.power)

    def regions(self, features: Tensor) -> Tensor:
        """Pool `[b, c, h, w]` to `[b, 1, c]`."""
        pooled: Tensor = self(features)
        return pooled[:, None]


class RMAC(nn.Module):
    """Regional maximum activations of convolutions (Tolias et al.).

    Args:
        levels: number of region sizes.
        overlap: wanted overlap of neighbouring regions.
        power: exponent of the generalised mean inside a region; None is the published maximum.
    """

    def __init__(self, levels: int = 3, overlap: float = 0.4, power: float | None = None) -> None:
        super().__init__()
        self.levels = levels
        self.overlap = overlap
        self.power = power

    def regions(self, features: Tensor) -> Tensor:
        """Pool `[b, c, h, w]` to one vector a region, `[b, r, c]`."""
        grid = region_grid(features.shape[-2], features.shape[-1], self.levels, self.overlap)
        return torch.stack(
            [gem(features[..., y : y + h, x : x + w], self.power) for y, x, h, w in grid], dim=1
        )

    def forward(self, features: Tensor) -> Tensor:
        """Pool `[b, c, h, w]` to the sum of L2-normalised regions, `[b, c]`."""
        return functional.normalize(self.regions(features), dim=-1).sum(dim=1)


def region_pooling(config: PoolingConfig) -> RMAC:
    """Return the pooling of regions that whitening is learned on: the grid of R-MAC for GeM, too."""
    return RMAC(power=config.power)


def build_pooling(config: PoolingConfig, trainable: bool = True) -> GeM | RMAC:
    """Return the pooling module that a configuration names.

    Args:
        config: kind and parameters.
        trainable: whether the power of GeM receives gradients.
    """
    if config.kind == "rmac":
        return RMAC(power=config.power)
    return GeM(config.power, trainable)

"""PCA whitening with shrinkage, learned from a stream of descriptors.

Jégou, Chum: "Negative evidences and co-occurrences in image retrieval: the benefit of PCA and whitening".
With fewer images than dimensions the sample covariance is singular and plain whitening blows up noise; the
covariance is therefore shrunk towards a multiple of the identity with the intensity that Ledoit and Wolf
("A well-conditioned estimator for large-dimensional covariance matrices") derive from the data.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from landmark_retrieval.configuration import Configuration
from landmark_retrieval.descriptors.matrix import BlockArray, iterate_blocks, map_blocks, normalize_rows
from landmark_retrieval.errors import LandmarkRetrievalError

if TYPE_CHECKING:
    from landmark_retrieval.data_sets import SplitRows

logger = logging.getLogger(__name__)


class WhiteningConfig(Configuration):
    """How whitening is learned.

    Attributes:
        dimensions: leading principal components to keep; None keeps all.
        shrinkage: weight in [0, 1] of the identity in the covariance; None takes Ledoit and Wolf's estimate.
        power: exponent applied to the standard deviations: 1 whitens fully, 0 only rotates.
        min_images: train images below which other images are used too (see `fallback`).
        max_images: images used at most, spread evenly over the split.
        fallback: what is used when the train split is too small: the `index` split or `index+train`.
    """

    dimensions: int | None = Field(default=None, ge=1)
    shrinkage: float | None = Field(default=None, ge=0, le=1)
    power: float = Field(default=1.0, ge=0, le=1)
    min_images: int = Field(default=1000, ge=2)
    max_images: int = Field(default=100_000, ge=2)
    fallback: Literal["index", "index+train"] = "index+train"


@dataclass(frozen=True)
class Whitening:
    """The affine map `x -> (x - mean) @ projection`.

    Attributes:
        mean: `[d]` float32.
        projection: `[d, e]` float32, columns by descending variance. `[0, 0]` stands for "no whitening".
    """

    mean: NDArray[np.float32]
    projection: NDArray[np.float32]

    @classmethod
    def none(cls) -> Whitening:
        """Return the whitening that leaves descriptors as they are."""
        return cls(np.zeros(0, np.float32), np.zeros((0, 0), np.float32))

    @property
    def is_none(self) -> bool:
        """Whether descriptors are left as they are."""
        return self.projection.size == 0


class Covariance:
    """Running moments of a stream of vectors, enough for their covariance and its shrinkage intensity.

    Args:
        dimension: length d of the vectors.
    """

    def __init__(self, dimension: int) -> None:
        self.count = 0
        self._sum = np.zeros(dimension)
        self._outer = np.zeros((dimension, dimension))
        self._weighted_sum = np.zeros(dimension)
        self._fourth = 0.0

    def update(self, x: NDArray[Any]) -> None:
        """Add the rows of `x` `[n, d]`; zero rows are left out."""
        x = np.asarray(x, dtype=np.float64)
        squared = np.einsum("ij,ij->i", x, x)
        keep = squared > 0
        x, squared = x[keep], squared[keep]
        self.count += len(x)
        self._sum += x.sum(axis=0)
        self._outer += x.T @ x
        self._weighted_sum += squared @ x
        self._fourth += float(squared @ squared)

    def mean(self) -> NDArray[np.float64]:
        """Return the mean `[d]`."""
        return self._sum / max(self.count, 1)

    def covariance(self) -> NDArray[np.float64]:
        """Return the maximum-likelihood covariance `[d, d]`."""
        mean = self.mean()
        return self._outer / max(self.count, 1) - np.outer(mean, mean)

    def ledoit_wolf(self, effective_count: float | None = None) -> float:
        """Return Ledoit and Wolf's optimal weight of the identity, in [0, 1].

        Args:
            effective_count: number of independent samples when it is below the number of vectors.
        """
        n, mean, covariance = self.count, self.mean(), self.covariance()
        c = float(mean @ mean)
        trace = float(np.trace(self._outer))
        # sum over samples of |x - mean|^4, from the raw moments
        fourth = (
            self._fourth
            + 4 * float(mean @ self._outer @ mean)
            + n * c * c
            - 4 * float(mean @ self._weighted_sum)
            + 2 * c * trace
            - 4 * c * float(mean @ self._sum)
        )
        squares = float(np.sum(covariance**2))
        spread = squares - float(np.trace(covariance)) ** 2 / len(mean)
        noise = max(0.0, fourth / n - squares) / (effective_count or n)
        return 1.0 if spread <= 0 else min(1.0, noise / spread)


def fit_whitening(x: NDArray[Any] | BlockArray, config: WhiteningConfig | None) -> Whitening:
    """Learn PCA whitening from descriptors.

    Args:
        x: `[n, d]`; zero rows ("no descriptor") are left out.
        config: parameters; None means no whitening.

    Returns:
        The whitening; `Whitening.none()` when `config` is None or fewer than two usable rows are given.
    """
    if config is None:
        return Whitening.none()
    moments = Covariance(x.shape[1])
    for block in iterate_blocks(x):
        moments.update(block)
    return whitening_from_moments(moments, config)


def whitening_from_moments(
    moments: Covariance, config: WhiteningConfig, effective_count: float | None = None
) -> Whitening:
    """Return the whitening of a distribution whose moments were gathered.

    Args:
        moments: of the descriptors `[d]`.
        config: parameters.
        effective_count: number of independent samples when it is below the number of vectors (overlapping
            regions of one image are not independent).
    """
    if moments.count < 2:
        logger.warning("whitening: %d usable descriptors, at least 2 are needed; left out", moments.count)
        return Whitening.none()
    shrinkage = moments.ledoit_wolf(effective_count) if config.shrinkage is None else config.shrinkage
    covariance = moments.covariance()
    variances, directions = np.linalg.eigh(covariance)
    variances, directions = variances[::-1].clip(0), directions[:, ::-1]
    shrunk = (1 - shrinkage) * variances + shrinkage * variances.mean()
    kept = slice(0, config.dimensions)
    shrunk, directions = shrunk[kept], directions[:, kept]
    # Directions without variance carry nothing; a division by almost zero would make them all there is.
    usable = shrunk > 1e-10 * shrunk.max(initial=1e-30)
    shrunk, directions = shrunk[usable], directions[:, usable]
    directions = directions * np.where(directions.sum(axis=0) < 0, -1.0, 1.0)
    logger.info(
        "whitening: %d descriptors, %d to %d dimensions, shrinkage %.3f",
        moments.count,
        len(covariance),
        len(shrunk),
        shrinkage,
    )
    projection = directions * shrunk ** (-config.power / 2)
    return Whitening(moments.mean().astype(np.float32), projection.astype(np.float32))


def project(x: NDArray[Any], whitening: Whitening) -> NDArray[np.float32]:
    """Return `(x - mean) @ projection`, `[n, e]`, without normalisation.

    Raises:
        LandmarkRetrievalError: the whitening was learned on descriptors of another length.
    """
    if whitening.is_none:
        return np.asarray(x, dtype=np.float32)
    if x.shape[1] != len(whitening.mean):
        raise LandmarkRetrievalError(
            f"whitening was learned on {len(whitening.mean)}-d descriptors, these have {x.shape[1]} "
            "dimensions; run the features pipeline again"
        )
    return np.asarray((np.asarray(x, np.float32) - whitening.mean) @ whitening.projection, np.float32)


def apply_whitening(x: NDArray[Any], whitening: Whitening) -> NDArray[np.float32]:
    """Whiten descriptors and normalise them again.

    Args:
        x: `[n, d]`.
        whitening: what `fit_whitening` returned.

    Returns:
        `[n, e]` float32, rows of unit length; zero rows stay zero.
    """
    described: NDArray[np.bool_] = np.any(np.asarray(x) != 0, axis=1, keepdims=True)
    return normalize_rows(project(x, whitening) * described)


def whiten_rows(
    x: NDArray[Any] | BlockArray, whitening: Whitening, storage: Literal["float32", "float16"] = "float32"
) -> BlockArray:
    """Return `apply_whitening` of a matrix of any size as a lazy array, computed block by block.

    Args:
        x: `[n, d]`.
        whitening: what `fit_whitening` returned.
        storage: number type of the result.
    """
    width = x.shape[1] if whitening.is_none else whitening.projection.shape[1]
    return map_blocks(lambda block: apply_whitening(block, whitening), x, width, storage)


def whitening_rows(splits: SplitRows, config: WhiteningConfig) -> NDArray[np.int64]:
    """Choose the table rows that whitening is learned on, and log the choice.

    The train split, or what `config.fallback` names when the train split has fewer than
    `config.min_images` images; queries are never used.

    Args:
        splits: rows of the image table by split.
        config: parameters.

    Returns:
        Ascending table rows, at most `config.max_images`.
    """
    train = np.arange(splits.train.start, splits.train.stop)
    index = np.arange(splits.index.start, splits.index.stop)
    if len(train) >= config.min_images or len(index) == 0:
        rows, name = train, "train"
    elif config.fallback == "index" or len(train) == 0:
        rows, name = index, "index"
    else:
        rows, name = np.concatenate([index, train]), "index and train"
    if len(rows) > config.max_images:
        rows = rows[np.linspace(0, len(rows) - 1, config.max_images).round().astype(int)]
    logger.info(
        "whitening is learned on %d images of the %s split (train has %d, min_images %d)",
        len(rows),
        name,
        len(train),
        config.min_images,
    )
    return rows.astype(np.int64)

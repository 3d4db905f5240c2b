"""Whitening with shrinkage, learned from a stream of descriptors.

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
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from landmark_retrieval.configuration import Configuration
from landmark_retrieval.descriptors.covariance import Covariance
from landmark_retrieval.descriptors.matrix import (
    BlockArray,
    iterate_blocks,
    map_blocks,
    normalize_rows,
    take_rows,
)
from landmark_retrieval.errors import LandmarkRetrievalError

if TYPE_CHECKING:
    from landmark_retrieval.collection import SplitRows

logger = logging.getLogger(__name__)


MIN_WITHIN = 30
"""Train images beyond the first of each landmark that `auto` needs to choose `within`."""


class WhiteningConfig(Configuration):
    """How whitening is learned.

    The total covariance is dominated by what tells landmarks apart when few landmarks with many views each
    are in it; whitening then removes just that. The covariance of deviations from the landmark's mean
    (Mikolajczyk, Matas: "Improving descriptors for fast tree matching by optimal linear projection"; the
    learned whitening of Radenović et al.) holds only what should be ignored, and works with few images.

    Attributes:
        covariance: `total` (PCA whitening), `within` (deviations from the mean of each landmark, of each
            image for regions), or `auto`: `within` where enough train images have labels, else `total` with
            at least `min_images` images, else descriptors are only centred.
        dimensions: leading principal components to keep; None keeps all.
        shrinkage: weight in [0, 1] of the identity in the covariance; None takes Ledoit and Wolf's estimate.
        power: exponent applied to the standard deviations: 1 whitens fully, 0 only rotates.
        min_images: train images below which other images are used, too.
        max_images: images used at most, spread evenly over the split.
    """

    covariance: Literal["auto", "total", "within"] = "auto"
    dimensions: int | None = Field(default=None, ge=1, le=1_000_000)
    shrinkage: float | None = Field(default=None, ge=0, le=1)
    power: float = Field(default=1.0, ge=0, le=1)
    min_images: int = Field(default=1000, ge=2, le=1_000_000_000)
    max_images: int = Field(default=50_000, ge=2, le=1_000_000_000)


class RegionWhiteningConfig(WhiteningConfig):
    """How the whitening layer is learned from regions; `auto` means `within` (each image).

    Regions of one image share the landmark, so what varies among them (position, crop, scale) is what the
    descriptor should ignore; no labels are needed. `total` is the published PCA whitening of regions, which
    needs many thousands of varied images. Attributes as in `WhiteningConfig`.
    """

    min_images: int = Field(default=256, ge=2, le=1_000_000_000)
    max_images: int = Field(default=256, ge=2, le=1_000_000_000)


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


def fit_whitening(
    x: NDArray[Any] | BlockArray, config: WhiteningConfig | None, groups: NDArray[np.int64] | None = None
) -> Whitening:
    """Learn whitening from descriptors.

    Args:
        x: `[n, d]`; zero rows ("no descriptor") are left out.
        config: parameters; None means no whitening.
        groups: `[n]` label of each row, negative for none: learn from deviations from the group's mean.
            None: learn from the total covariance.

    Returns:
        The whitening; `Whitening.none()` when `config` is None or fewer than two usable rows are given.
    """
    if config is None:
        return Whitening.none()
    total = Covariance(x.shape[1])
    for block in iterate_blocks(x):
        total.update(block)
    if groups is None:
        return whitening_from_moments(total, config)
    residuals, freedom = within_residuals(np.asarray(x), groups)
    within = Covariance(x.shape[1])
    within.update(residuals)
    return whitening_from_moments(total, config, within, freedom)


def learn_whitening(
    x: NDArray[Any] | BlockArray, table: pd.DataFrame, config: WhiteningConfig | None, trained: bool = False
) -> Whitening:
    """Learn the whitening of finished descriptors, choosing images and covariance as `config` says.

    The mean is always that of the images that are searched (index and train), because it must fit the
    index; queries are never used.

    Args:
        x: `[n, d]` descriptors of all images, in table order.
        table: image table, ordered query, index, train.
        config: parameters; None means no whitening.
        trained: whether the network was trained on the train split. Its descriptors of those images are
            tighter than of any others, and it has a trained whitening layer: `auto` then only centres.

    Raises:
        LandmarkRetrievalError: `covariance: within` but no landmark has two train images.
    """
    if config is None:
        return Whitening.none()
    if trained and config.covariance == "auto":
        logger.info("whitening: the network has a trained layer; descriptors are only centred")
        config = config.model_copy(update={"covariance": "total", "shrinkage": 1.0})
    from landmark_retrieval.collection import SplitRows

    splits = SplitRows.from_table(table)
    landmarks = np.asarray(table["landmark_id"].astype("Int64").fillna(-1), dtype=np.int64)
    train: NDArray[np.int64] = _thin(np.arange(splits.train.start, splits.train.stop, dtype=np.int64), config)
    freedom = _freedom(landmarks[train])
    if config.covariance == "within" and freedom == 0:
        raise LandmarkRetrievalError(
            "whitening.covariance: 'within' needs two train images of one landmark; use 'auto' or 'total'"
        )
    if config.covariance == "within" or (config.covariance == "auto" and freedom >= MIN_WITHIN):
        logger.info(
            "whitening is learned on views of the same landmark: %d images of the train split", len(train)
        )
        whitening = fit_whitening(take_rows(x, train), config, landmarks[train])
    else:
        rows = whitening_rows(splits, config)
        if config.covariance == "auto" and len(rows) < config.min_images:
            logger.info(
                "%d images are too few to whiten (min_images %d); descriptors are only centred",
                len(rows),
                config.min_images,
            )
            config = config.model_copy(update={"shrinkage": 1.0})
        whitening = fit_whitening(take_rows(x, rows), config)
    searched = _thin(np.arange(splits.index.start, splits.train.stop, dtype=np.int64), config)
    return whitening if whitening.is_none else Whitening(_mean(take_rows(x, searched)), whitening.projection)


def within_residuals(x: NDArray[Any], groups: NDArray[np.int64]) -> tuple[NDArray[np.float32], int]:
    """Return deviations from the group means, and how many of them are independent.

    Args:
        x: `[n, d]`; zero rows are left out.
        groups: `[n]`; negative labels and groups of one are left out.

    Returns:
        `[m, d]`, and m less the number of groups.
    """
    x = np.asarray(x, dtype=np.float32)
    usable = np.flatnonzero((groups >= 0) & np.any(x != 0, axis=1))
    _, labels, counts = np.unique(groups[usable], return_inverse=True, return_counts=True)
    several = counts[labels] > 1
    usable, labels = usable[several], labels[several]
    sums = np.zeros((len(counts), x.shape[1]))
    np.add.at(sums, labels, x[usable])
    residuals = x[usable] - (sums / counts[:, None])[labels].astype(np.float32)
    return residuals, len(usable) - int(np.count_nonzero(counts > 1))


def whitening_from_moments(
    total: Covariance,
    config: WhiteningConfig,
    within: Covariance | None = None,
    effective_count: float | None = None,
) -> Whitening:
    """Return the whitening of a distribution whose moments were gathered.

    Args:
        total: moments of the descriptors `[d]`.
        config: parameters.
        within: moments of deviations from group means, whose covariance is whitened instead of the total.
        effective_count: number of independent samples when it is below the number of vectors (overlapping
            regions of one image are not independent).
    """
    moments = within or total
    if moments.count < 2 or total.count < 2:
        logger.warning("whitening: %d usable descriptors, at least 2 are needed; left out", moments.count)
        return Whitening.none()
    shrinkage = config.shrinkage
    if shrinkage is None:
        shrinkage = moments.ledoit_wolf(effective_count)
    variances, directions = _principal_axes(moments.covariance())
    shrunk = (1 - shrinkage) * variances + shrinkage * variances.mean()
    if within is None:
        shrunk, directions = shrunk[: config.dimensions], directions[:, : config.dimensions]
    # Directions without variance carry nothing; a division by almost zero would make them all there is.
    usable = shrunk > 1e-10 * shrunk.max(initial=1e-30)
    projection = directions[:, usable] * shrunk[usable] ** (-config.power / 2)
    if within is not None and config.dimensions is not None:
        # The axes to keep are those along which whitened descriptors vary most.
        _, axes = _principal_axes(projection.T @ total.covariance() @ projection)
        projection = projection @ axes[:, : config.dimensions]
    logger.info(
        "whitening: %d vectors, %d to %d dimensions, shrinkage %.3f",
        moments.count,
        *projection.shape,
        shrinkage,
    )
    return Whitening(total.mean().astype(np.float32), projection.astype(np.float32))


def _principal_axes(covariance: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return variances, descending, and axes as columns with a fixed sign."""
    variances, axes = np.linalg.eigh(covariance)
    axes = axes[:, ::-1]
    return variances[::-1].clip(0), axes * np.where(axes.sum(axis=0) < 0, -1.0, 1.0)


def _freedom(groups: NDArray[np.int64]) -> int:
    labelled = groups[groups >= 0]
    return len(labelled) - len(np.unique(labelled))


def _mean(x: NDArray[Any]) -> NDArray[np.float32]:
    described = x[np.any(x != 0, axis=1)]
    return np.asarray(described.mean(axis=0, dtype=np.float64), np.float32)


def _thin(rows: NDArray[np.int64], config: WhiteningConfig) -> NDArray[np.int64]:
    """Return at most `config.max_images` rows, evenly spread."""
    if len(rows) <= config.max_images:
        return rows
    return rows[np.linspace(0, len(rows) - 1, config.max_images).round().astype(np.int64)]


def project(x: NDArray[Any], whitening: Whitening) -> NDArray[np.float32]:
    """Return `(x - mean) @ projection`, float32 `[n, e]`, without normalisation.

    Args:
        x: `[n, d]`.
        whitening: mean `[d]` and projection `[d, e]`; `Whitening.none()` returns x as float32.

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

    The train split, or index and train split together when the train split has fewer than
    `config.min_images` images; queries are never used.

    Args:
        splits: rows of the image table by split.
        config: parameters.

    Returns:
        Ascending table rows, at most `config.max_images`.
    """
    train = np.arange(splits.train.start, splits.train.stop, dtype=np.int64)
    index = np.arange(splits.index.start, splits.index.stop, dtype=np.int64)
    if len(train) >= config.min_images or len(index) == 0:
        rows, name = train, "train"
    elif len(train) == 0:
        rows, name = index, "index"
    else:
        rows, name = np.concatenate([index, train]), "index and train"
    rows = _thin(rows, config)
    logger.info(
        "whitening takes %d images of the %s split (train has %d, min_images %d)",
        len(rows),
        name,
        len(train),
        config.min_images,
    )
    return rows

"""Aggregated local features: one vector of a photo from all of its local features (VLAD).

The residuals of the features to their nearest visual word are summed up word by word (Jégou et al.:
"Aggregating local descriptors into a compact image representation", 2010, section 3), each word's sum is
brought to unit length (Arandjelović and Zisserman: "All about VLAD", 2013, section 3.2), and the long vector
is projected to its principal axes. Nothing is trained: words and axes are learned on the collection itself.

Features are read photo by photo; what is held at a time is one batch of long vectors and the axes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field
from threadpoolctl import threadpool_limits

from landmark_retrieval.configuration import Configuration, Seed, digest
from landmark_retrieval.descriptors.matrix import Descriptors, make_blocks
from landmark_retrieval.runtime.store import Request, Store
from landmark_retrieval.runtime.store_files import Arrays

if TYPE_CHECKING:
    from landmark_retrieval.local_features.base import LocalFeatures
    from landmark_retrieval.local_features.store import LocalFeatureStore

logger = logging.getLogger(__name__)

VERSION = 1
"""Raised when the same parameters give other vectors; part of every fingerprint."""

POINTS_PER_WORD = 64
"""Features on which a word is learned on average."""

MIN_POINTS_PER_WORD = 39
"""Features below which FAISS holds a word for badly learned: then there are fewer words."""

ITERATIONS = 10
"""Rounds of k-means; the words are a partition of space, not an estimate that has to converge."""

PHOTOS_PER_AXIS = 2
"""Photos on which the axes are learned, at most, for each axis that is kept. From so many on the axes are
half-whitened: divided by the fourth root of their variance (Jégou and Chum: "Negative evidences and
co-occurrences in image retrieval", 2012). With fewer photos the leading axes are the collection's own places
and not what all photos have in common, so they are only turned."""

BATCH = 128
"""Long vectors held at a time: 64 MiB with 1,024 words of 128 numbers."""

WORDS_AT_A_TIME = 64
"""Words whose axes are held in single precision."""

NEGLIGIBLE = 1e-6
"""Axes whose variance is below this share of the largest one are rounding errors."""


class AggregatedConfig(Configuration):
    """How local features are aggregated.

    Attributes:
        words: visual words; fewer where the photos have too few features to learn so many.
        dimensions: numbers of the result, float16; fewer where there are fewer photos to learn axes from. 0
            makes none, so that aggregated features propose nobody.
        seed: of k-means.
        codebook: a name; the words and axes that were learned first under it stay, so that photos that are
            added change no other photo's vector. None learns them anew when the photos that they are learned
            on change.
    """

    words: int = Field(default=1024, ge=1, le=1_000_000)
    dimensions: int = Field(default=2048, ge=0, le=2048)
    seed: Seed = 0
    codebook: str | None = None


@dataclass(frozen=True)
class Codebook:
    """What aggregation has learned.

    Attributes:
        words: float32 `[w, d]` visual words.
        mean: float32 `[w * d]` of the long vectors.
        axes: float16 `[w * d, e]` principal axes.
    """

    words: NDArray[np.float32]
    mean: NDArray[np.float32]
    axes: NDArray[np.float16]

    @property
    def dimensions(self) -> int:
        """Numbers of an aggregated vector."""
        return int(self.axes.shape[1])


def aggregate(descriptors: NDArray[np.floating[Any]], words: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the long vector of one photo.

    Args:
        descriptors: `[m, d]` local descriptors.
        words: float32 `[w, d]`.

    Returns:
        float32 `[w * d]` of unit length; zeros without features.
    """
    result = np.zeros(words.shape, np.float32)
    x = np.asarray(descriptors, np.float32)
    if len(x):
        # The nearest word has the largest inner product less half its squared length.
        nearest = (x @ words.T - 0.5 * (words**2).sum(axis=1)).argmax(axis=1)
        order = np.argsort(nearest, kind="stable")
        found, starts, counts = np.unique(nearest[order], return_index=True, return_counts=True)
        sums = np.add.reduceat(x[order], starts, axis=0) - counts[:, None] * words[found]
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        result[found] = np.where(lengths > 0, sums / np.maximum(lengths, 1e-12), 0)
    flat = result.reshape(-1)
    length = np.linalg.norm(flat)
    return flat / length if length > 0 else flat


def project(vectors: NDArray[np.float32], codebook: Codebook) -> NDArray[np.float16]:
    """Return long vectors in few numbers.

    Args:
        vectors: float32 `[b, w * d]` of `aggregate`.
        codebook: mean and axes.

    Returns:
        float16 `[b, e]` with rows of unit length; a zero row stays zero.
    """
    total = np.zeros((len(vectors), codebook.dimensions), np.float32)
    for columns in _slices(codebook.words):
        total += (vectors[:, columns] - codebook.mean[columns]) @ codebook.axes[columns].astype(np.float32)
    lengths = np.linalg.norm(total, axis=1, keepdims=True)
    there = vectors.any(axis=1, keepdims=True) & (lengths > 0)
    return np.where(there, total / np.maximum(lengths, 1e-12), 0).astype(np.float16)


def describe_features(features: LocalFeatures, codebook: Codebook) -> NDArray[np.float16]:
    """Return the aggregated vector of one photo, float16 `[1, e]`; zeros without features."""
    return project(aggregate(features.descriptors, codebook.words)[None], codebook)


def aggregate_rows(features: LocalFeatureStore, codebook: Codebook, rows: slice) -> NDArray[np.float16]:
    """Return the aggregated vectors of consecutive photos.

    Args:
        features: of the collection; rows beyond it (train images without features) get zeros.
        codebook: words and axes.
        rows: table rows.

    Returns:
        float16 `[b, e]`, one column of zeros where there is nothing to tell photos apart by.
    """
    result = np.zeros((rows.stop - rows.start, max(1, codebook.dimensions)), np.float16)
    if codebook.dimensions == 0:
        return result
    end = min(rows.stop, features.images)
    for start in range(rows.start, end, BATCH):
        batch = range(start, min(start + BATCH, end))
        vectors = np.stack([aggregate(features.get(row).descriptors, codebook.words) for row in batch])
        result[start - rows.start :][: len(batch)] = project(vectors, codebook)
    return result


def learning_rows(index: slice, config: AggregatedConfig) -> NDArray[np.int64]:
    """Return the table rows to learn on: those of the index, evenly taken where there are more than needed.

    Args:
        index: rows of the index split.
        config: number of dimensions.
    """
    rows = np.arange(index.start, index.stop, dtype=np.int64)
    if config.dimensions == 0:
        return rows[:0]
    return _evenly(rows, PHOTOS_PER_AXIS * config.dimensions)


def learn_codebook(
    features: LocalFeatureStore, rows: NDArray[np.int64], config: AggregatedConfig
) -> Codebook:
    """Learn words and axes on some photos.

    The axes come from the inner products of the photos' long vectors with each other, which are far fewer
    than the numbers of one of them. Held at a time: these vectors as float16, and the axes.

    Args:
        features: of the collection.
        rows: int64 `[m]` table rows of the photos to learn on (`learning_rows`).
        config: parameters.
    """
    words = _learn_words(features, rows, config)
    if config.dimensions == 0:
        return Codebook(words, np.zeros(words.size, np.float32), np.zeros((words.size, 0), np.float16))
    vectors = np.zeros((len(rows), words.size), np.float16)
    for number, row in enumerate(rows):
        vectors[number] = aggregate(features.get(int(row)).descriptors, words)
    vectors = vectors[vectors.any(axis=1)]
    mean = vectors.mean(axis=0, dtype=np.float64) if len(vectors) else np.zeros(words.size)
    return Codebook(words, mean.astype(np.float32), _learn_axes(vectors, words, mean, config))


def _learn_words(
    features: LocalFeatureStore, rows: NDArray[np.int64], config: AggregatedConfig
) -> NDArray[np.float32]:
    """Return visual words float32 `[w, d]` by k-means; without any feature one word at the origin.

    Of each photo as many features are taken as it takes for `POINTS_PER_WORD`, evenly among their order of
    falling score.
    """
    import faiss

    wanted = -(-config.words * POINTS_PER_WORD // max(len(rows), 1))
    parts = [_evenly(features.get(int(row)).descriptors, wanted).astype(np.float32) for row in rows]
    points = np.concatenate([np.zeros((0, features.dimensions), np.float32), *parts])
    if len(points) == 0:
        return np.zeros((1, features.dimensions), np.float32)
    kmeans = faiss.Kmeans(
        points.shape[1],
        min(config.words, max(1, len(points) // MIN_POINTS_PER_WORD)),
        niter=ITERATIONS,
        seed=config.seed,
        min_points_per_centroid=1,
        max_points_per_centroid=len(points),
    )
    # Products of several threads differ in their last bits, and k-means makes much of them.
    with threadpool_limits(1):
        kmeans.train(points)
    return np.array(kmeans.centroids, np.float32)


def _learn_axes(
    vectors: NDArray[np.float16],
    words: NDArray[np.float32],
    mean: NDArray[np.float64],
    config: AggregatedConfig,
) -> NDArray[np.float16]:
    """Return the principal axes float16 `[w * d, e]` of long vectors `[m, w * d]`."""

    def centred(columns: slice) -> NDArray[np.float32]:
        return (vectors[:, columns] - mean[columns]).astype(np.float32)

    products = np.zeros((len(vectors), len(vectors)))
    for columns in _slices(words):
        part = centred(columns)
        products += part @ part.T
    variances, sides = np.linalg.eigh(products / max(len(vectors), 1))
    kept = np.argsort(-variances, kind="stable")[: config.dimensions]
    kept = kept[variances[kept] > NEGLIGIBLE * variances.max(initial=0)]
    variances, sides = variances[kept], sides[:, kept]
    factors = 1 / np.sqrt(variances * len(vectors))
    if len(vectors) >= PHOTOS_PER_AXIS * config.dimensions:
        factors *= variances**-0.25
    sides = (sides * factors * np.where(sides.sum(axis=0) < 0, -1.0, 1.0)).astype(np.float32)
    axes = np.empty((words.size, len(variances)), np.float16)
    for columns in _slices(words):
        axes[columns] = centred(columns).T @ sides
    return axes


def stored_codebook(
    features: LocalFeatureStore, index: slice, store: Store, config: AggregatedConfig
) -> Codebook:
    """Learn the codebook where the store does not hold it yet.

    Args:
        features: of the collection.
        index: table rows of the index split.
        store: where what was learned is kept.
        config: parameters.
    """
    rows = learning_rows(index, config)
    parameters = {
        "version": VERSION,
        "features": features.namespace,
        **config.model_dump(mode="json", exclude={"codebook"}),
    }

    def prepare(_: NDArray[np.int64]) -> partial[Arrays]:
        return partial(_codebook_shard, features, rows, config)

    request = Request("words of local features", "codebook", prepare, 1)
    made_of = digest(config.codebook or features.keys[rows].tolist())
    found = store.namespace("codebook", parameters).fill(np.array([made_of]), request).places
    return Codebook(*(found.read(name)[0] for name in ("words", "mean", "axes")))


def aggregated_descriptors(
    features: LocalFeatureStore, codebook: Codebook, images: pd.DataFrame
) -> Descriptors:
    """Return the aggregated vectors of all photos of a table, made while they are written or read.

    Args:
        features: of the table; train images beyond them get zeros.
        codebook: words and axes.
        images: the image table.
    """
    matrix = make_blocks(
        lambda rows: aggregate_rows(features, codebook, rows),
        (len(images), max(1, codebook.dimensions)),
        np.float16,
        BATCH,
    )
    return Descriptors(images["image_id"].to_numpy(dtype=str), matrix)


def _codebook_shard(features: LocalFeatureStore, rows: NDArray[np.int64], config: AggregatedConfig) -> Arrays:
    codebook = learn_codebook(features, rows, config)
    logger.info(
        "aggregated features: %d words and %d axes learned on %d photos of the index",
        len(codebook.words),
        codebook.dimensions,
        len(rows),
    )
    return {"words": codebook.words[None], "mean": codebook.mean[None], "axes": codebook.axes[None]}


def _evenly(values: NDArray[Any], count: int) -> NDArray[Any]:
    """Return `count` of the values at even distances, all where there are no more."""
    if len(values) <= count:
        return values
    return values[np.linspace(0, len(values) - 1, count).round().astype(np.int64)]


def _slices(words: NDArray[np.float32]) -> Iterator[slice]:
    """Yield the columns of a long vector in slices of some words each."""
    width = WORDS_AT_A_TIME * words.shape[1]
    return (slice(start, min(start + width, words.size)) for start in range(0, words.size, width))

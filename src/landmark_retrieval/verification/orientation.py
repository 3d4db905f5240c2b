"""How photos stand: those that verify with nobody upright are tried turned by 90, 180 and 270 degrees.

Networks for local features stand about 20 degrees of rotation, phones turn photos by 90 and lose the mark of
it. A photo that has a verified partner as it stands is left alone. Of the others turned local features are
made and aggregated; the likeliest partners at each turn are verified, and the turn of the surest one is how
the photo stands from then on, for every descriptor.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from landmark_retrieval.collection import SplitRows
from landmark_retrieval.descriptors.aggregated import Codebook, aggregate_rows
from landmark_retrieval.images import TURNS, image_sources, photo_keys
from landmark_retrieval.knn import KnnConfig, NeighborLists, search
from landmark_retrieval.local_features import LocalFeatureStore, StoredFeatures
from landmark_retrieval.verification.candidates import CandidateList, first_pairs

logger = logging.getLogger(__name__)

CANDIDATES = 10
"""Photos with which one is verified, upright and turned."""

TRIAL = 32
"""Index photos that are turned at a time: the first so many in vain are the last ones. Where one in ten of
the photos without a partner is turned, 32 of them show it in 97 of 100 cases."""

TRIAL_SHARE = 32
"""A trial takes at most one index photo in so many, so that in vain it costs at most a tenth of the local
features."""


@dataclass(frozen=True, eq=False)
class Standing:
    """A collection as its photos stand, and how they are compared.

    Attributes:
        images: the image table, queries before index.
        contents: `images.content_digest` of every row.
        features: local features of all rows.
        aggregated: float16 `[rows, e]` aggregated vectors of all rows.
        codebook: that they were made with.
        extract: makes local features of a table and its keys.
        verify: verifies pairs of rows of some features.
        knn: parameters of the search.
        min_inliers: inliers from which a pair is verified.
    """

    images: pd.DataFrame
    contents: NDArray[np.str_]
    features: StoredFeatures
    aggregated: NDArray[np.float16]
    codebook: Codebook
    extract: Callable[[pd.DataFrame, NDArray[np.str_]], StoredFeatures]
    verify: Callable[[NDArray[np.int64], LocalFeatureStore], pd.DataFrame]
    knn: KnnConfig
    min_inliers: int

    def turns(self) -> NDArray[np.int64]:
        """Return by how many degrees every row of the table is turned, int64 `[rows]`."""
        rows, degrees = SplitRows.from_table(self.images), np.zeros(len(self.images), np.int64)
        found = [
            self._proposals(self.aggregated[split], own)
            for split, own in ((rows.query, False), (rows.index, True))
        ]
        pairs = first_pairs([CandidateList("", found[0].neighbors, found[1].neighbors, CANDIDATES)])
        tried = self.verify(pairs, LocalFeatureStore(self.features))
        alone = without_partner(tried, rows.index.stop, self.min_inliers)
        is_query = alone < rows.index.start
        queries, others = alone[is_query], alone[~is_query]
        for turned, by in find_turns(queries, others, self.try_turned, rows.index.stop - rows.index.start):
            degrees[turned] = by
        logger.info(
            "orientation: %d photos have no verified partner as they stand, %d of them have one when turned",
            len(alone),
            np.count_nonzero(degrees),
        )
        return degrees

    def try_turned(self, photos: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return by how many degrees some rows are turned, 0 where no turn finds a partner."""
        index = SplitRows.from_table(self.images).index
        table = turned_table(self.images, photos)
        keys = photo_keys(image_sources(table), np.tile(self.contents[photos], len(TURNS)))
        turned = self.extract(table, keys)
        vectors = aggregate_rows(LocalFeatureStore(turned), self.codebook, slice(0, len(table)))
        own = np.tile(np.where(photos >= index.start, photos - index.start, -1), len(TURNS))
        at, partners = likeliest_partners(self._search(vectors, own))
        both = replace(
            self.features,
            keys=np.concatenate([turned.keys, self.features.keys[index]]),
        )
        pairs = np.stack([at, partners + len(table)], axis=1)
        tried = self.verify(pairs, LocalFeatureStore(both))
        rows, inliers = tried["row_a"].to_numpy(np.int64), tried["inliers"].to_numpy(np.int32)
        return settle(rows, inliers, len(photos), self.min_inliers)

    def _proposals(self, vectors: NDArray[np.float16], own: bool) -> NeighborLists:
        rows = np.arange(len(vectors), dtype=np.int64) if own else np.full(len(vectors), -1, np.int64)
        return self._search(vectors, rows)

    def _search(self, vectors: NDArray[np.float16], exclude: NDArray[np.int64]) -> NeighborLists:
        index = self.aggregated[SplitRows.from_table(self.images).index]
        config = self.knn.model_copy(update={"k": max(1, min(CANDIDATES, len(index) - 1))})
        return search(vectors, index, config, exclude, "aggregated features")


def turned_table(images: pd.DataFrame, rows: NDArray[np.int64]) -> pd.DataFrame:
    """Return some rows of an image table three times, turned by each of `TURNS`.

    Args:
        images: the image table.
        rows: int64 `[m]`.

    Returns:
        `[3 m]` rows with a column `turn`: first all turned by 90 degrees.
    """
    parts = [images.iloc[rows].assign(turn=turn) for turn in TURNS]
    return pd.concat(parts, ignore_index=True)


def likeliest_partners(found: NeighborLists) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return whom turned photos are verified with: the leading `CANDIDATES` of each photo and turn.

    Args:
        found: `[3 photos, k]` index rows nearest to each turned photo, -1 padded.

    Returns:
        Rows of the turned table and rows of the index, int64 `[m]` each.
    """
    leading = found.neighbors[:, :CANDIDATES].astype(np.int64)
    turned, column = np.nonzero(leading >= 0)
    return turned, leading[turned, column]


def settle(
    turned: NDArray[np.int64], inliers: NDArray[np.int32], photos: int, min_inliers: int
) -> NDArray[np.int64]:
    """Return by how many degrees each photo is turned: as for its partner with the most inliers.

    Args:
        turned: int64 `[m]` rows of the turned table, one for each pair that was tried.
        inliers: int32 `[m]` of these pairs.
        photos: that were turned.
        min_inliers: inliers from which a pair is verified.

    Returns:
        int64 `[photos]`; 0 without a verified partner.
    """
    best = np.zeros(len(TURNS) * photos, np.int64)
    np.maximum.at(best, turned, np.where(inliers >= max(min_inliers, 1), inliers, 0))
    by_turn = best.reshape(len(TURNS), photos)
    degrees = np.array(list(TURNS), np.int64)[by_turn.argmax(axis=0)]
    return np.where(by_turn.max(axis=0, initial=0) > 0, degrees, 0)


def without_partner(pairs: pd.DataFrame, images: int, min_inliers: int) -> NDArray[np.int64]:
    """Return the rows without a verified partner, int64 `[m]`.

    Args:
        pairs: `row_a`, `row_b`, `inliers` of the pairs that were tried.
        images: number of rows.
        min_inliers: inliers from which a pair is verified.
    """
    alone = np.ones(images, np.bool_)
    verified = pairs["inliers"] >= max(min_inliers, 1)
    for column in ("row_a", "row_b"):
        alone[pairs.loc[verified, column].to_numpy(np.int64)] = False
    return np.flatnonzero(alone)


def find_turns(
    queries: NDArray[np.int64],
    index: NDArray[np.int64],
    try_turned: Callable[[NDArray[np.int64]], NDArray[np.int64]],
    images: int,
    seed: int = 0,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Turn photos without a partner: all queries, and index photos as long as that finds partners.

    Args:
        queries: int64 `[m]` rows of queries without a partner.
        index: int64 `[m]` rows of index photos without a partner.
        try_turned: takes rows, returns by how many degrees each is turned, 0 for not known.
        images: number of index photos, with and without a partner.
        seed: of the order in which index photos are tried.

    Yields:
        Rows and their degrees, int64 each.
    """
    if len(queries):
        yield queries, try_turned(queries)
    shuffled = np.random.default_rng(seed).permutation(index)
    trial = max(1, min(TRIAL, images // TRIAL_SHARE))
    for start in range(0, len(shuffled), trial):
        rows = np.sort(shuffled[start : start + trial])
        degrees = try_turned(rows)
        yield rows, degrees
        if not degrees.any():
            logger.info(
                "orientation: %d of %d index photos without a partner were turned, the last %d in vain",
                start + len(rows),
                len(index),
                len(rows),
            )
            return

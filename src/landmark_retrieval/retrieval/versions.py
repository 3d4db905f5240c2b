"""One version of an index as it is searched, and what an addition has to do to it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.retrieval.changes import State
from landmark_retrieval.retrieval.growth import Grown
from landmark_retrieval.retrieval.index import SearchIndex
from landmark_retrieval.retrieval.photo import PhotoSearch
from landmark_retrieval.retrieval.snapshot import grown_index


@dataclass(frozen=True, eq=False)
class Version:
    """An index as it is searched.

    Attributes:
        state: what was added and deleted.
        searching: searches it.
        rows: index row of every photo that is there, by id.
        gone: bool `[n]` index rows that are not there any more.
        pairs: int64 `[p, 2]` index rows that were compared.
        probabilities: float32 `[p]` P(same place).
    """

    state: State
    searching: PhotoSearch
    rows: Mapping[str, int]
    gone: NDArray[np.bool_]
    pairs: NDArray[np.int64]
    probabilities: NDArray[np.float32]


def unchanged(index: SearchIndex, tried: pd.DataFrame) -> Version:
    """Return the index of a run as it is.

    Args:
        index: of the run.
        tried: `row_a`, `row_b`, `probability` of all pairs that it compared (table rows).
    """
    rows = index.rows.index
    inside = tried[(tried["row_a"] >= rows.start) & (tried["row_b"] < rows.stop)]
    pairs = inside[["row_a", "row_b"]].to_numpy(np.int64) - rows.start
    gone = np.zeros(rows.stop - rows.start, np.bool_)
    probabilities = inside["probability"].to_numpy(np.float32)
    return Version(State(0), PhotoSearch(index), _rows(index, gone), gone, pairs, probabilities)


def changed(index: SearchIndex, state: State, grown: Grown) -> Version:
    """Return the index of a run as it has become."""
    now = grown_index(index, state.photos, grown)
    gone = grown.plain.gone
    return Version(state, PhotoSearch(now), _rows(now, gone), gone, grown.pairs, grown.probabilities)


def _rows(index: SearchIndex, gone: NDArray[np.bool_]) -> dict[str, int]:
    ids = index.ids[index.rows.index]
    return {image: row for row, (image, lost) in enumerate(zip(ids, gone.tolist(), strict=True)) if not lost}


@dataclass(frozen=True)
class Plan:
    """What an addition has to do.

    Attributes:
        ids: of all photos that are given.
        contents: digests of their bytes.
        new: places of those that have to be described.
        back: index rows of the run that were deleted and come back.
    """

    ids: list[str]
    contents: list[str]
    new: list[int]
    back: list[int]

    @classmethod
    def of(
        cls,
        run: SearchIndex,
        state: State,
        rows: Mapping[str, int],
        photos: Sequence[bytes],
        ids: Sequence[str],
        given: bool,
    ) -> Plan:
        """Plan an addition.

        Args:
            run: the index of the run.
            state: what was added and deleted so far.
            rows: of the photos that are there, by id.
            photos: bytes of each.
            ids: wanted for each.
            given: whether these were given: then one that is taken is refused, else it gets a number.

        Raises:
            LandmarkRetrievalError: an id is taken by another photo.
        """
        first, stop = run.rows.index.start, run.rows.index.stop
        keys = [str(key).split("+")[0] for key in run.features.keys[first:stop].tolist()]
        known = {key: (run.ids[first + row], row) for row, key in enumerate(keys)}
        added = {photo.content: photo.id for photo in state.there().values()}
        plan, taken = cls([], [], [], []), {*rows, *run.ids}
        for place, (data, wanted) in enumerate(zip(photos, ids, strict=True)):
            content = hashlib.sha256(data).hexdigest()[:16]
            plan.contents.append(content)
            name, row = known.get(content, (added.get(content), None))
            if name is None:
                name = _free(wanted, taken, given)
                taken.add(name)
                added[content] = name
                plan.new.append(place)
            elif row is not None and name not in rows and row not in plan.back:
                plan.back.append(row)
            plan.ids.append(name)
        return plan


def _free(wanted: str, taken: set[str], given: bool) -> str:
    """Return an id that no photo has."""
    if wanted not in taken:
        return wanted
    if given:
        raise LandmarkRetrievalError(f"the index has another photo '{wanted}'; give this one another id")
    number = 2
    while f"{wanted}-{number}" in taken:
        number += 1
    return f"{wanted}-{number}"

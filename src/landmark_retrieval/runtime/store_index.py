"""Which results lie where in a namespace of the store: read from its shards once, and remembered."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.runtime.shard_arrays import ShardArrays
from landmark_retrieval.runtime.store_files import (
    KEYS,
    OFFSETS,
    PARTS,
    REASONS,
    SECONDS,
    SHARD,
    BadShardError,
    Folder,
    state_of,
    unpack,
)

logger = logging.getLogger(__name__)

INDEX = "index.npz"
"""What was read of all shards; made anew from them wherever it is missing or damaged."""

MAPPED = 4096
"""Arrays of shards that are mapped into memory at a time; systems allow some 65,000."""

LONG = 64
"""Results that lie together in a shard from which they are handed on as a block of their own."""

Keys = NDArray[np.bytes_]


@dataclass(frozen=True, eq=False)
class Entry:
    """What is known of one shard file.

    Attributes:
        state: of the file when its bytes were looked at.
        keys: bytes `[b]` of the results that it holds, none where it cannot be used.
        seconds: float32 `[b]` that they took.
        reasons: why there is no result, by row, for photos that cannot be decoded.
        problem: why the shard cannot be used, "" where it can.
    """

    state: str
    keys: Keys
    seconds: NDArray[np.float32]
    reasons: Mapping[int, str]
    problem: str = ""

    @classmethod
    def of(cls, state: str, arrays: Mapping[str, NDArray[Any]]) -> Entry:
        """Return the entry of a whole shard."""
        reasons = arrays.get(REASONS, np.zeros(0, str))
        told = {int(row): str(reasons[row]) for row in np.flatnonzero(reasons != "")}
        return cls(state, arrays[KEYS], arrays[SECONDS].astype(np.float32), told)

    @classmethod
    def bad(cls, state: str, problem: str) -> Entry:
        """Return the entry of a file that cannot be used."""
        return cls(state, np.zeros(0, "S1"), np.zeros(0, np.float32), {}, problem)


@dataclass(frozen=True, eq=False)
class Places:
    """Where some results are.

    Attributes:
        folder: of the shards.
        names: of the shards.
        shard: int64 `[n]` positions in `names`, -1 where there is no result.
        row: int64 `[n]` rows in the shard.
    """

    folder: Folder
    names: Sequence[str]
    shard: NDArray[np.int64]
    row: NDArray[np.int64]
    _mapped: dict[tuple[str, int], NDArray[Any]] = field(default_factory=dict, init=False, repr=False)

    @property
    def there(self) -> NDArray[np.bool_]:
        """Which results there are, bool `[n]`."""
        return self.shard >= 0

    def take(self, rows: NDArray[np.int64]) -> Places:
        """Return the places of some of the results, with the names of their shards alone."""
        used, shard = np.unique(self.shard[rows], return_inverse=True)
        without = len(used) > 0 and used[0] < 0
        names = [self.names[number] for number in used[int(without) :]]
        return Places(self.folder, names, shard.reshape(-1) - int(without), self.row[rows])

    def read(self, name: str, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Return the array `name` of results start to stop, zeros where there is none.

        Raises:
            LandmarkRetrievalError: a shard was damaged or deleted since it was looked at.
        """
        shard, row = self.shard[start:stop], self.row[start:stop]
        # Shards in their order; in each the results keep that of the places, often the one they lie in.
        order = np.argsort(shard, kind="stable")
        parts = [
            at
            for at in np.split(order, np.flatnonzero(np.diff(shard[order])) + 1)
            if len(at) and shard[at[0]] >= 0
        ]
        if not parts:
            return self._nothing(name, len(shard))
        found: NDArray[Any] | None = None
        for at in parts:
            values = self._rows(name, int(shard[at[0]]), row[at])
            if len(at) == len(shard):
                return values
            if found is None:
                found = np.zeros((len(shard), *values.shape[1:]), values.dtype)
            if int(at[-1]) - int(at[0]) + 1 == len(at):
                found[int(at[0]) : int(at[-1]) + 1] = values
            else:
                found[at] = values
        assert found is not None
        return found

    def _rows(self, name: str, number: int, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return some rows of an array of a shard.

        What lies together is read at one go, which costs less than the page faults of a map; what lies apart
        comes out of a map that is kept, because the next rows are likely to come out of the same shards.
        """
        if int(rows[-1]) - int(rows[0]) + 1 == len(rows) and bool((np.diff(rows) == 1).all()):
            with opened(self.folder, self.names[number]) as arrays:
                return arrays.rows(name, int(rows[0]), int(rows[-1]) + 1)
        whole = self._mapped.get((name, number))
        if whole is None:
            with opened(self.folder, self.names[number]) as arrays:
                whole = arrays.mapped(name)
                if whole is None:
                    first = int(rows.min())
                    return arrays.rows(name, first, int(rows.max()) + 1)[rows - first]
            if len(self._mapped) >= MAPPED:
                self._mapped.pop(next(iter(self._mapped)))
            self._mapped[name, number] = whole
        return whole[rows]

    def runs(self, most: int) -> list[slice]:
        """Return consecutive slices of at most so many results; what lies together in a shard is one slice.

        Args:
            most: results of a slice.
        """
        count = len(self.shard)
        breaks = np.flatnonzero((np.diff(self.shard) != 0) | (np.diff(self.row) != 1)) + 1
        bounds = np.concatenate([[0], breaks, [count]])
        long = np.diff(bounds) >= LONG
        cuts = np.unique(np.concatenate([[0, count], bounds[:-1][long], bounds[1:][long]]))
        return [
            slice(begin, min(begin + most, end))
            for start, end in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True)
            for begin, end in ((begin, end) for begin in range(start, end, most))
        ]

    def each(self, *names: str) -> Iterator[tuple[int, dict[str, NDArray[Any]]]]:
        """Yield every result there is, in order: its position and its part of each array.

        Args:
            names: of arrays; `parts.*` give all rows of a result.

        Raises:
            LandmarkRetrievalError: a shard was damaged or deleted since it was looked at.
        """
        # Consecutive results of one shard are read at one go.
        cuts = np.flatnonzero(np.diff(self.shard)) + 1
        for run in np.split(np.arange(len(self.shard)), cuts):
            if len(run) == 0 or self.shard[run[0]] < 0:
                continue
            with opened(self.folder, self.names[int(self.shard[run[0]])]) as arrays:
                offsets = arrays.rows(OFFSETS) if any(name.startswith(PARTS) for name in names) else None
                for position in run.tolist():
                    row = int(self.row[position])
                    found = {}
                    for name in names:
                        if name.startswith(PARTS) and offsets is not None:
                            found[name] = arrays.rows(name, int(offsets[row]), int(offsets[row + 1]))
                        else:
                            found[name] = arrays.rows(name, row, row + 1)[0]
                    yield position, found

    def _nothing(self, name: str, count: int) -> NDArray[Any]:
        for shard in self.names:
            with opened(self.folder, shard) as arrays:
                values = arrays.rows(name, 0, 0)
            return np.zeros((count, *values.shape[1:]), values.dtype)
        return np.zeros((count, 0), np.float32)


@contextmanager
def opened(folder: Folder, name: str) -> Iterator[ShardArrays]:
    """Open a shard that was found whole before.

    Raises:
        LandmarkRetrievalError: it was damaged or deleted since; the next run computes its results again.
    """
    try:
        with folder.open(name) as file:
            yield ShardArrays(file)
        return
    except FileNotFoundError:
        reason = "was deleted while it was in use"
    except (PermissionError, ConnectionError, TimeoutError, MemoryError, LandmarkRetrievalError):
        raise
    except Exception as error:  # the decoders raise many types on damaged files
        reason = f"was damaged while it was in use ({' '.join(str(error).split()) or type(error).__name__})"
    folder.remove(INDEX)  # so that the next run looks at every byte
    raise LandmarkRetrievalError(
        f"{folder.url}/{name}: {reason}; run again, its results alone are computed again"
    )


@dataclass(eq=False)
class Index:
    """All shards of a folder.

    Attributes:
        folder: of the shards.
        entries: by the names of the files.
    """

    folder: Folder
    entries: dict[str, Entry] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Folder) -> Index:
        """Return what was remembered of a folder, nothing where that is missing or damaged."""
        try:
            with np.load(io.BytesIO(folder.read(INDEX)), allow_pickle=False) as file:
                stored = {name: file[name] for name in file.files}
            entries, start = {}, 0
            reasons = dict(zip(stored["reason_rows"].tolist(), stored["reasons"].tolist(), strict=True))
            for name, state, problem, count in zip(
                *(stored[column].tolist() for column in ("names", "states", "problems", "counts")),
                strict=True,
            ):
                stop = start + count
                told = {row - start: text for row, text in reasons.items() if start <= row < stop}
                entries[name] = Entry(
                    state, stored["keys"][start:stop], stored["seconds"][start:stop], told, problem
                )
                start = stop
        except Exception:  # the decoders raise many types on damaged files
            return cls(folder)
        return cls(folder, entries)

    def write(self, token: str) -> None:
        """Remember what is known."""
        names = sorted(self.entries)
        entries = [self.entries[name] for name in names]
        counts = np.array([len(entry.keys) for entry in entries], np.int64)
        starts = np.cumsum(counts) - counts
        told = {
            int(start) + row: text
            for start, entry in zip(starts, entries, strict=True)
            for row, text in entry.reasons.items()
        }
        buffer = io.BytesIO()
        np.savez(
            buffer,
            names=np.array(names, dtype=str),
            states=np.array([entry.state for entry in entries], dtype=str),
            problems=np.array([entry.problem for entry in entries], dtype=str),
            counts=counts,
            keys=np.concatenate([np.zeros(0, "S1"), *(entry.keys for entry in entries)]),
            seconds=np.concatenate([np.zeros(0, np.float32), *(entry.seconds for entry in entries)]),
            reason_rows=np.array(list(told), np.int64),
            reasons=np.array(list(told.values()), dtype=str),
        )
        self.folder.write(INDEX, buffer.getvalue(), token)

    def refresh(self, listing: Mapping[str, Mapping[str, Any]]) -> bool:
        """Look at all shards that are new or have changed; name those that cannot be used.

        Args:
            listing: of the folder.

        Returns:
            Whether anything had changed.
        """
        present = {
            name: state_of(entry)
            for name, entry in listing.items()
            if name.endswith(SHARD) and name != INDEX and entry["type"] == "file"
        }
        gone = [name for name in self.entries if name not in present]
        looked_at = [
            name
            for name, state in present.items()
            if name not in self.entries or self.entries[name].state != state
        ]
        for name in gone:
            if len(self.entries.pop(name).keys):
                logger.warning("%s/%s was deleted: what it held is computed again", self.folder.url, name)
        for name in sorted(looked_at):
            self.entries[name] = self._look_at(name, present[name])
        if gone or looked_at:
            self.forget_lookup()
        return bool(gone or looked_at)

    def _look_at(self, name: str, state: str) -> Entry:
        try:
            return Entry.of(state, unpack(name, self.folder.read(name)))
        except FileNotFoundError:
            return Entry.bad("", "was deleted")
        except BadShardError as error:
            logger.warning("%s/%s %s: what it held is computed again", self.folder.url, name, error)
            return Entry.bad(state, str(error))

    def add(self, name: str, entry: Entry) -> None:
        """Add a shard that this run has written."""
        self.entries[name] = entry
        self.forget_lookup()

    def forget_lookup(self) -> None:
        """Let the table by which keys are found be made anew."""
        self.__dict__.pop("_lookup", None)

    @cached_property
    def _lookup(self) -> tuple[list[str], Keys, NDArray[np.int64], NDArray[np.int64]]:
        """Return shards, and their keys in ascending order with shard and row."""
        names = sorted(name for name, entry in self.entries.items() if not entry.problem)
        all_keys = [self.entries[name].keys for name in names]
        counts = [len(keys) for keys in all_keys]
        keys = np.concatenate([np.zeros(0, "S1"), *all_keys])
        shard = np.repeat(np.arange(len(names), dtype=np.int64), counts)
        row = np.concatenate([np.zeros(0, np.int64), *(np.arange(count) for count in counts)])
        order = np.argsort(keys, kind="stable")
        return names, keys[order], shard[order], row[order]

    def find(self, keys: Keys) -> Places:
        """Return where results are, by key; "" is found nowhere."""
        names, known, shard, row = self._lookup
        if len(known) == 0:
            nowhere = np.full(len(keys), -1, np.int64)
            return Places(self.folder, names, nowhere, np.zeros(len(keys), np.int64))
        # A search for keys in their order goes through memory once; for a million that is four times as fast.
        order = np.argsort(keys, kind="stable")
        at = np.empty(len(keys), np.int64)
        at[order] = np.minimum(np.searchsorted(known, keys[order]), len(known) - 1)
        there = (known[at] == keys) & (keys != b"")
        return Places(self.folder, names, np.where(there, shard[at], -1), np.where(there, row[at], 0))

    def seconds(self, places: Places) -> float:
        """Return what different results took to compute, whenever that was."""
        every = np.concatenate(
            [np.zeros(0, np.float32), *(self.entries[name].seconds for name in places.names)]
        )
        counts = np.array([len(self.entries[name].keys) for name in places.names], np.int64)
        starts = np.cumsum(counts) - counts
        there = places.there
        different = np.zeros(len(every), np.bool_)
        different[starts[places.shard[there]] + places.row[there]] = True
        return float(every[different].sum())

    def reasons(self, places: Places) -> dict[int, str]:
        """Return why photos have no result, by their position among the places."""
        told = {}
        for number, name in enumerate(places.names):
            reasons = self.entries[name].reasons
            if reasons:
                for position in np.flatnonzero(places.shard == number).tolist():
                    if int(places.row[position]) in reasons:
                        told[position] = reasons[int(places.row[position])]
        return told

"""What lies in a store, and the only things that delete from it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from landmark_retrieval.runtime.claims import Claims, new_token
from landmark_retrieval.runtime.store import CLAIMS, NAMESPACE, USED, Store
from landmark_retrieval.runtime.store_files import (
    TEMPORARY,
    BadShardError,
    Folder,
    keep_rows,
    pack,
    state_of,
    unpack,
)
from landmark_retrieval.runtime.store_index import Entry, Index, Keys

DAY = 86400.0


@dataclass(frozen=True)
class Contents:
    """One namespace.

    Attributes:
        name: kind and fingerprint.
        parameters: that its results depend on; empty where they cannot be read.
        results: photos or pairs.
        size: in bytes, with what is of no use.
        useless: bytes of it in damaged shards and temporary files.
        used: when a run last asked for something here, in seconds since the epoch.
        busy: whether a run is computing here now.
    """

    name: str
    parameters: Mapping[str, Any]
    results: int
    size: int
    useless: int
    used: float
    busy: bool


@dataclass(frozen=True)
class Pruned:
    """What was deleted of one namespace, or would be.

    Attributes:
        name: kind and fingerprint.
        whole: whether nothing is left of it.
        results: that were deleted.
        size: in bytes.
    """

    name: str
    whole: bool
    results: int
    size: int


def contents(store: Store) -> list[Contents]:
    """Return all namespaces, by kind, the one that was used last first."""
    found = []
    for kind, entry in sorted(store.folder.listing().items()):
        if entry["type"] != "directory":
            continue
        for fingerprint, below in (store.folder / kind).listing().items():
            if below["type"] == "directory":
                found.append(_contents_of(store.folder / kind / fingerprint, f"{kind}/{fingerprint}"))
    return sorted(found, key=lambda one: (one.name.split("/")[0], -one.used))


def _contents_of(folder: Folder, name: str) -> Contents:
    listing, index = folder.listing(), _index(folder)
    files = {file: int(entry["size"] or 0) for file, entry in listing.items() if entry["type"] == "file"}
    useless = [
        file
        for file in files
        if file.endswith(TEMPORARY) or (file in index.entries and index.entries[file].problem)
    ]
    facts, used = _json(folder, NAMESPACE), _json(folder, USED)
    results = np.concatenate([np.zeros(0, "S1"), *(entry.keys for entry in index.entries.values())])
    return Contents(
        name=name,
        parameters=facts.get("parameters", {}),
        results=len(np.unique(results)),
        size=sum(files.values()),
        useless=sum(files[file] for file in useless),
        used=float(used.get("used", 0.0)),
        busy=bool(Claims(folder / CLAIMS, "").others()),
    )


def prunable_bytes(store: Store, in_use: str) -> int:
    """Return what `prune` could free beside the last used namespace of each kind and one that is in use."""
    found = contents(store)
    kept = {in_use, *(one.name for one in _last(found, 1))}
    return sum(one.useless if one.name in kept else one.size for one in found)


def prune(
    store: Store,
    keep_last: int | None = None,
    older_than: float | None = None,
    used_keys: Callable[[str, Keys], Any] | None = None,
    dry_run: bool = False,
) -> list[Pruned]:
    """Delete what is of no use, and what one of the options gives up.

    Namespaces in which a run is computing are left alone. Damaged shards and temporary files go always.

    Args:
        store: what to delete from.
        keep_last: namespaces of each kind that stay, those used last.
        older_than: days; namespaces that no run has used for longer go.
        used_keys: takes a kind and keys, returns which of them stay, bool; others go.
        dry_run: only say what would go.

    Returns:
        What was deleted, or would be, by namespace.
    """
    found = contents(store)
    given_up: set[str] = set()
    if keep_last is not None:
        given_up |= {one.name for one in found} - {one.name for one in _last(found, keep_last)}
    if older_than is not None:
        given_up |= {one.name for one in found if time.time() - one.used > older_than * DAY}
    pruned = []
    for one in found:
        if one.busy:
            continue
        folder = Folder(f"{store.folder.url}/{one.name}")
        if one.name in given_up:
            if not dry_run:
                folder.fs.rm(folder.path("").rstrip("/"), recursive=True)
            pruned.append(Pruned(one.name, True, one.results, one.size))
            continue
        size, results = _prune_useless(folder, dry_run), 0
        if used_keys is not None:
            results, freed = _prune_unused(folder, one.name.split("/")[0], used_keys, dry_run)
            size += freed
        if size:
            pruned.append(Pruned(one.name, False, results, size))
    return pruned


def _last(found: Iterable[Contents], count: int) -> list[Contents]:
    kept: dict[str, list[Contents]] = {}
    for one in sorted(found, key=lambda one: -one.used):
        kept.setdefault(one.name.split("/")[0], []).append(one)
    return [one for group in kept.values() for one in group[:count]]


def _prune_useless(folder: Folder, dry_run: bool) -> int:
    """Delete damaged shards and temporary files; return their bytes."""
    freed, index = 0, _index(folder)
    for name, entry in folder.listing().items():
        if name.endswith(TEMPORARY) or (name in index.entries and index.entries[name].problem):
            freed += int(entry["size"] or 0)
            if not dry_run:
                folder.remove(name)
    return freed


def _prune_unused(
    folder: Folder, kind: str, used_keys: Callable[[str, Keys], Any], dry_run: bool
) -> tuple[int, int]:
    """Delete the results whose keys are not used; a shard of which some are is written anew first."""
    token, results, freed = new_token(), 0, 0
    index = _index(folder)
    for name in list(index.entries):
        entry = index.entries[name]
        used = np.asarray(used_keys(kind, entry.keys), np.bool_) if len(entry.keys) else np.ones(0, np.bool_)
        if entry.problem or used.all():
            continue
        try:
            arrays = unpack(name, folder.read(name))
        except BadShardError:
            continue
        size = int(folder.fs.info(folder.path(name))["size"])
        results += int((~used).sum())
        rest, content = pack(keep_rows(arrays, np.flatnonzero(used)))
        freed += size - (len(content) if used.any() else 0)
        if dry_run:
            continue
        if used.any():
            folder.write(rest, content, token)
            state = state_of(folder.fs.info(folder.path(rest)))
            index.add(rest, Entry.of(state, keep_rows(arrays, np.flatnonzero(used))))
        folder.remove(name)
        del index.entries[name]
    if results and not dry_run:
        index.write(token)
    return results, freed


def _index(folder: Folder) -> Index:
    """Return what a namespace holds as it is now, without a word in the log where it was seen before."""
    index = Index.read(folder)
    index.refresh(folder.listing())
    return index


def _json(folder: Folder, name: str) -> Mapping[str, Any]:
    try:
        facts = json.loads(folder.read(name))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def describe(parameters: Mapping[str, Any], left_out: Sequence[str] = ()) -> str:
    """Return parameters in one line, `name=value name.name=value`, without those that are null or empty."""
    parts: list[str] = []

    def walk(values: Mapping[str, Any], prefix: str) -> None:
        for name, value in values.items():
            if isinstance(value, Mapping):
                walk(value, f"{prefix}{name}.")
            elif value not in (None, [], "") and name not in left_out:
                text = value if isinstance(value, str) else json.dumps(value)
                parts.append(f"{prefix}{name}={text}")

    walk(parameters, "")
    return " ".join(parts)

"""What was computed once: results of photos and of pairs of photos, kept by what they are made of.

A namespace holds the results of one kind under one set of parameters; its name is a digest of them, and they
lie beside it in `namespace.json`. In it a result is found by a key: a digest of the photo's bytes (`images.
photo_keys`), or of both photos of a pair. Nothing depends on rows, paths, names, shards or workers, so
whatever was computed serves every table and every later run.

    ROOT/<kind>/<fingerprint>/namespace.json    parameters
                              <digest>.npz      shards: results that were computed together, never changed
                              index.npz         which shard holds what; made anew where it is missing
                              used.json         when a run last asked for something here
                              claims/           what runs are computing at the moment

Shards are written under a temporary name, synced and renamed. Their name is the digest of their bytes; one
that does not fit it is named in the log, and what it held is computed again. Only `prune` deletes anything.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from landmark_retrieval.configuration import digest
from landmark_retrieval.runtime.claims import Claims, new_token
from landmark_retrieval.runtime.store_files import TEMPORARY, Folder, NoSpaceError
from landmark_retrieval.runtime.store_filling import PASSING, Filling, Request
from landmark_retrieval.runtime.store_index import Index, Keys, Places

__all__ = ["PASSING", "Filled", "Namespace", "Request", "Store", "Work", "as_keys"]

logger = logging.getLogger(__name__)

NAMESPACE = "namespace.json"
USED = "used.json"
CLAIMS = "claims"


@dataclass(frozen=True)
class Work:
    """What one request found in the store and what it computed.

    Attributes:
        what: is kept, for the log.
        unit: photo or pair.
        wanted: different results that were asked for.
        computed: of them by this run.
        seconds: that all of them took, whenever they were computed.
    """

    what: str
    unit: str
    wanted: int
    computed: int
    seconds: float


@dataclass(frozen=True, eq=False)
class Filled:
    """What a request got.

    Attributes:
        places: of the results, one for each key, in the order of the keys.
        reasons: why there is none, by position; "" keys are not among them.
        seconds: that all results took.
    """

    places: Places
    reasons: Mapping[int, str]
    seconds: float


class Store:
    """All namespaces below one folder, and what was done through this handle.

    Args:
        root: folder path or fsspec URL (`s3://bucket/folder`).

    Attributes:
        work: one entry for each request, in order.
    """

    def __init__(self, root: str) -> None:
        self.folder = Folder(str(root).rstrip("/"))
        self.work: list[Work] = []

    def namespace(self, kind: str, parameters: Mapping[str, Any]) -> Namespace:
        """Return the results of one kind that depend on these parameters and on nothing else.

        Args:
            kind: of results, a word.
            parameters: JSON-serialisable and readable; files among them by a digest of their content.
        """
        plain = json.loads(json.dumps(dict(parameters), default=str))
        return Namespace(self, kind, digest(kind, plain), plain)


class Namespace:
    """Results of one kind under one set of parameters; made by `Store.namespace`."""

    def __init__(self, store: Store, kind: str, fingerprint: str, parameters: Mapping[str, Any]) -> None:
        self.store, self.kind, self.parameters = store, kind, parameters
        self.name = f"{kind}/{fingerprint}"
        self.folder = store.folder / kind / fingerprint
        self._index: Index | None = None

    def fill(self, keys: NDArray[Any], request: Request) -> Filled:
        """Compute what is not there, and return where everything is.

        Other runs may do the same at the same time: what one of them is computing is waited for.

        Args:
            keys: text or bytes `[n]`; "" asks for nothing.
            request: how to compute results.

        Raises:
            NoSpaceError: the file system is full; says how much is missing.
            LandmarkRetrievalError: workers keep dying, or the store cannot be written.
        """
        wanted = as_keys(keys)
        token, index = new_token(), self._open()
        self._mark_used(
            token
        )  # at once: whoever prunes after a run that ended early keeps what that had done
        unique, first = np.unique(wanted, return_index=True)
        first = np.sort(first[unique != b""])
        missing = first[~index.find(wanted[first]).there]
        logger.info(
            "%s: %d of %d %ss are in the store, %d to compute",
            request.what,
            len(first) - len(missing),
            len(first),
            request.unit,
            len(missing),
        )
        failed: dict[bytes, str] = {}
        computed = 0
        if len(missing):
            with Claims(self.folder / CLAIMS, token).held() as claims:
                filling = Filling(self.folder, index, wanted, first, request, claims, failed)
                try:
                    computed = filling.run()
                except NoSpaceError as error:
                    raise self._full(error) from None
        if computed or self._changed:
            index.write(token)
        places = index.find(wanted)
        reasons = index.reasons(places)
        if failed:
            reasons |= {
                int(at): failed[bytes(wanted[at])]
                for at in np.flatnonzero(~places.there & (wanted != b""))
                if bytes(wanted[at]) in failed
            }
        seconds = index.seconds(places)
        self.store.work.append(Work(request.what, request.unit, len(first), computed, seconds))
        return Filled(places, reasons, seconds)

    def _full(self, error: NoSpaceError) -> NoSpaceError:
        """Return the message of a full disk: what is missing, and what would make room."""
        from landmark_retrieval.runtime.store_contents import prunable_bytes

        free = prunable_bytes(self.store, self.name) / 2**20
        return NoSpaceError(
            f"{error}; `kedro store prune --keep-last 1` would free {free:.0f} MiB; make room and run again, "
            "what is done is kept"
        )

    def look(self, keys: NDArray[Any]) -> Filled:
        """Return what earlier requests have stored, and compute nothing."""
        wanted, index = as_keys(keys), self._open()
        places = index.find(wanted)
        return Filled(places, index.reasons(places), index.seconds(places))

    def _open(self) -> Index:
        """Return the index of the folder as it is now; name what is of no use in it."""
        self.folder.make()
        listing = self.folder.listing()
        if self._index is None:
            self._index = Index.read(self.folder)
            self._describe(listing)
        self._changed = self._index.refresh(listing)
        return self._index

    def _describe(self, listing: Mapping[str, Mapping[str, Any]]) -> None:
        """Write the parameters where they are missing; name temporary files of runs that ended."""
        facts = {"kind": self.kind, "parameters": self.parameters}
        if not self._reads(NAMESPACE, facts, listing):
            self.folder.write(NAMESPACE, (json.dumps(facts, indent=1) + "\n").encode())
        strays = [name for name in listing if name.endswith(TEMPORARY)]
        if not strays:
            return
        alive = Claims(self.folder / CLAIMS, "").others()
        left = [name for name in strays if name.removeprefix(".").split("-")[0] not in alive]
        if left:
            logger.warning(
                "%s: %d temporary files were left by runs that were ended (%s ...); they are of no use, "
                "`kedro store prune` deletes them",
                self.folder.url,
                len(left),
                left[0],
            )

    def _reads(self, name: str, facts: Any, listing: Mapping[str, Any]) -> bool:
        if name not in listing:
            return False
        try:
            return bool(json.loads(self.folder.read(name)) == facts)
        except (OSError, ValueError):
            logger.warning("%s/%s is damaged and is written again", self.folder.url, name)
            return False

    def _mark_used(self, token: str) -> None:
        self.folder.write(USED, json.dumps({"used": time.time()}).encode(), token)


def as_keys(keys: NDArray[Any]) -> Keys:
    """Return keys as ASCII bytes."""
    array = np.asarray(keys)
    return array if array.dtype.kind == "S" else np.asarray(array.astype(str), dtype=np.bytes_)

"""Who computes what at the moment: claims of runs that share a store, without any lock.

Each run keeps one small file that names what it is computing and is written again every few seconds. A run
first writes its own claim and then looks at the others': whoever finds another's claim to the same gives way.
Two that find each other both do and try again later, so that nothing is computed twice. A claim that is no
longer renewed holds for nobody, so that no one waits for ever. Where clocks or caches of a file system
deceive, something is computed twice, with the same result.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.runtime.store_files import Folder

BEAT = 5.0
"""Seconds after which a claim is renewed."""

EXPIRY = 30.0
"""Seconds without renewal after which a claim holds for nobody."""


GIVE_WAY = 0.05
"""Most seconds that a run waits after it has given way, so that two do not meet again."""


def new_token() -> str:
    """Return a name for a run."""
    return uuid.uuid4().hex[:12]


@dataclass(frozen=True)
class Claim:
    """What another run is computing.

    Attributes:
        owner: machine and process, for messages.
        keys: that it claims.
    """

    owner: str
    keys: frozenset[str]


class Claims:
    """The claims of one run in one folder.

    Args:
        folder: where the claims of all runs lie.
        token: name of this run.
    """

    def __init__(self, folder: Folder, token: str) -> None:
        self.folder, self.token = folder, token
        self.company = True
        """Whether another run may have been at work here since the claims before the last ones."""
        self._own: set[str] = set()
        self._alone = 0
        self._seen: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()

    @contextlib.contextmanager
    def held(self) -> Iterator[Claims]:
        """Renew the claims of this run for as long as the block lasts; then let go of all."""
        self.folder.make()
        beat = threading.Thread(target=self._renew, daemon=True, name="claims")
        beat.start()
        try:
            yield self
        finally:
            self._over.set()
            beat.join()
            with contextlib.suppress(LandmarkRetrievalError):
                self.folder.remove(f"{self.token}.json")

    def take(self, keys: Iterable[str]) -> set[str]:
        """Claim keys; return those that no other run claims."""
        wanted = set(keys)
        with self._lock:
            self._own |= wanted
            self._write()
        others = self.others()
        lost = {key for key in wanted if any(key in claim.keys for claim in others.values())}
        if lost:
            self.release(lost)
            time.sleep(random.uniform(0, GIVE_WAY))
        self._alone = 0 if others else self._alone + 1
        self.company = self._alone < 2  # what ended since the claims before may have left results
        return wanted - lost

    def release(self, keys: Iterable[str]) -> None:
        """Let go of keys, once they are stored or given up."""
        with self._lock:
            self._own -= set(keys)
            self._write()

    def others(self) -> dict[str, Claim]:
        """Return the claims of other runs that are alive, by the names of the runs."""
        found = {}
        for name in self.folder.listing():
            token = name.removesuffix(".json")
            if not name.endswith(".json") or token == self.token:
                continue
            try:
                facts = json.loads(self.folder.read(name))
                alive = self._is_alive(token, facts)
                claim = Claim(f"{facts['host']}, process {facts['process']}", frozenset(facts["keys"]))
            except (OSError, ValueError, KeyError, TypeError):
                continue  # just removed, or not ours
            if alive:
                found[token] = claim
            else:
                with contextlib.suppress(LandmarkRetrievalError):
                    self.folder.remove(name)
        return found

    def _is_alive(self, token: str, facts: dict[str, Any]) -> bool:
        if facts["host"] == socket.gethostname() and not _runs(int(facts["process"])):
            return False
        beat = float(facts["beat"])
        if time.time() - beat > EXPIRY:
            return False
        # The other's clock may be ahead of this one: what counts then is that its beat changes.
        seen = self._seen.get(token)
        if seen is None or seen[0] != beat:
            seen = self._seen[token] = (beat, time.monotonic())
        return time.monotonic() - seen[1] < EXPIRY

    def _renew(self) -> None:
        while not self._over.wait(BEAT):
            with self._lock, contextlib.suppress(LandmarkRetrievalError):
                self._write()

    def _write(self) -> None:
        facts = {
            "host": socket.gethostname(),
            "process": os.getpid(),
            "beat": time.time(),
            "keys": sorted(self._own),
        }
        self.folder.write(f"{self.token}.json", json.dumps(facts).encode(), self.token, sync=False)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True

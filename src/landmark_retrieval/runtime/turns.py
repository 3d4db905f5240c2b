"""One at a time: whoever comes second waits, and nobody waits for one that has ended."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from landmark_retrieval.runtime.claims import Claims, new_token
from landmark_retrieval.runtime.store_files import Folder

logger = logging.getLogger(__name__)

TURN = "turn"
"""What a run claims."""

WAIT = 1.0
"""Seconds between looks at whether the other is done."""


@contextmanager
def in_turn(folder: Folder, what: str) -> Iterator[None]:
    """Wait until no other process holds a folder, and hold it as long as the block lasts.

    A process that was killed holds nothing. One process does not wait for itself: what it still holds is of a
    run that was interrupted, in a notebook for example.

    Args:
        folder: where the claims lie.
        what: the others are doing, for the log.
    """
    claims, said = Claims(folder, new_token()), False
    with claims.held():
        while True:
            owners = [claim.owner for claim in claims.others().values() if TURN in claim.keys]
            if f"{socket.gethostname()}, process {os.getpid()}" in owners or claims.take([TURN]):
                break
            if owners and not said:
                said = True
                logger.info("%s; waiting until it is done (%s)", what, "; ".join(sorted(owners)))
            time.sleep(WAIT)
        yield

"""How a collection has grown since it was read last."""

from __future__ import annotations

from collections.abc import Iterable


def growth_in_words(contents: Iterable[str], known: Iterable[str] | None) -> str:
    """Return how many photos are new, known and gone.

    Args:
        contents: digests of the photos that are there.
        known: digests of the photos of the last run, None for the first one.
    """
    now, before = set(contents), set(known or ())
    return f"photos: {len(now - before)} new, {len(now & before)} known, {len(before - now)} gone"

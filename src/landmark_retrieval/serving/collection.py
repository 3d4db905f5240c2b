"""What the service serves, and how it finds its way in it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from landmark_retrieval.retrieval.answers import Landmark, SearchResult
from landmark_retrieval.retrieval.answers import Match as Found
from landmark_retrieval.serving import schemas


class Collection(Protocol):
    """What is asked of a finished index (`landmark_retrieval.Index`)."""

    name: str

    def __len__(self) -> int: ...

    def search(self, photo: Path, results: int = 20) -> SearchResult:
        """Find a photo."""

    def picture(self, image_id: str) -> Path:
        """Return the file of a photo."""

    def groups(self) -> list[list[str]]:
        """Return the groups of photos of one place."""

    def add(self, photos: Sequence[Path]) -> list[str]:
        """Add photos and return their ids."""

    def delete(self, ids: Sequence[str]) -> None:
        """Take photos out."""


def photo_of(image_id: str) -> schemas.Photo:
    """Return a photo with its addresses."""
    address = f"/api/photos/{quote(image_id, safe='')}"
    return schemas.Photo(id=image_id, picture=address, thumbnail=f"{address}/thumbnail")


def answer_of(result: SearchResult) -> schemas.Answer:
    """Return an answer for programs, with the addresses of all pictures."""
    named = result.landmark
    return schemas.Answer(
        found=result.found,
        probability=_probability(result.probability),
        landmark=None if named is None else _named(named),
        turn=result.turn,
        seconds=round(result.seconds, 4),
        results=[_match(rank, match) for rank, match in enumerate(result.results, start=1)],
    )


def _match(rank: int, match: Found) -> schemas.Match:
    region = match.region
    return schemas.Match(
        **photo_of(match.id).model_dump(),
        rank=rank,
        landmark=match.landmark,
        probability=_probability(match.probability),
        evidence=match.evidence,
        why=match.why(),
        inliers=match.inliers,
        region=None if region is None else schemas.Region(photo=region.photo, match=region.match),
        through=[photo_of(image_id) for image_id in match.through],
        similarity=match.similarity,
    )


def _named(landmark: Landmark) -> schemas.Named:
    return schemas.Named(name=landmark.name, probability=_probability(landmark.probability))


def _probability(value: float) -> float:
    return min(max(float(value), 0.0), 1.0)


class Holder:
    """The collection of a service, which is opened while the service already listens.

    Attributes:
        failure: why it could not be opened, once that is known.
    """

    def __init__(self) -> None:
        self._collection: Collection | None = None
        self.failure: Exception | None = None
        self.writing = threading.Lock()

    def open(self, collection: Collection) -> None:
        """Serve a collection from now on."""
        self._collection = collection

    @property
    def collection(self) -> Collection | None:
        """What is served, None while it is being opened."""
        return self._collection

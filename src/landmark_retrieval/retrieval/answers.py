"""What a search of the library answers: results with what each is worth and why, and whether any is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Evidence = Literal["verified", "path", "label", "none"]
"""What speaks for a result: geometry, a path of verified pairs, labels of train images, or nothing but
similarity."""


@dataclass(frozen=True)
class Region:
    """The part of two photos in which they agree: what bounds the inliers of their match.

    Attributes:
        photo: left, top, right, bottom in pixels of the photo that was asked.
        match: the same in pixels of the photo that was found.
    """

    photo: tuple[float, float, float, float]
    match: tuple[float, float, float, float]


@dataclass(frozen=True)
class Match:
    """One photo of the index, and why it was found.

    Attributes:
        id: its id.
        picture: file that holds it.
        landmark: name of its landmark, empty where not known.
        probability: P(same place), 0 to 1; 0 where nothing but similarity speaks for it.
        evidence: what the probability comes from.
        inliers: of its match with the photo, None where the two were not compared.
        region: where the two agree, None without a verified match.
        through: ids of the photos that the path goes through, or of the train images whose label is shared.
        similarity: inner product of descriptors, where it is among the photo's neighbours.
    """

    id: str
    picture: Path
    landmark: str
    probability: float
    evidence: Evidence
    inliers: int | None
    region: Region | None
    through: Sequence[str]
    similarity: float | None

    def why(self) -> str:
        """Return the evidence in words."""
        if self.evidence == "verified":
            return f"verified: {self.inliers} matched points agree"
        if self.evidence == "path":
            return f"path of verified pairs through {', '.join(self.through)}"
        if self.evidence == "label":
            return f"same label as {', '.join(self.through)}" if self.through else "same label"
        return "resembles it, nothing proves it"


@dataclass(frozen=True)
class Landmark:
    """The landmark that labels name.

    Attributes:
        name: of the landmark.
        probability: that the photo shows it.
    """

    name: str
    probability: float


@dataclass(frozen=True)
class SearchResult:
    """The answer to one photo.

    Attributes:
        results: best first.
        found: whether anything here shows the photo's place: `probability` reaches the threshold.
        probability: that at least one of the results shows it.
        landmark: what labels name; None where they name nothing.
        turn: degrees, counter-clockwise, by which the photo was turned to be like the collection.
        seconds: that the search took.
        variant: of the ablation whose ranking this is.
    """

    results: Sequence[Match]
    found: bool
    probability: float
    landmark: Landmark | None
    turn: int
    seconds: float
    variant: str

    def __len__(self) -> int:
        return len(self.results)

"""The page of a collection: what was read, photos of one place, what repeats, which labels to doubt."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from landmark_retrieval.collection.audit import count_files
from landmark_retrieval.collection.doubts import NO_PARTNER
from landmark_retrieval.collection.groups import Groups
from landmark_retrieval.collection.walk import SAME_BYTES, USED
from landmark_retrieval.configuration import digest
from landmark_retrieval.images import CroppedImage, Source
from landmark_retrieval.reporting.report import caption
from landmark_retrieval.reporting.templating import template

PICTURES = "collection_files"
"""Folder of the thumbnails, beside the page."""

LISTED = 200
"""Files named of one outcome of the audit; the rest is in its table."""


THUMBNAIL_SIDE = 240
"""Long side of the pictures in pixels."""

LINKS = 5
"""Strongest links named of each group."""

DOUBTS = 200
"""Doubtful labels shown at most."""


@dataclass(frozen=True, eq=False)
class CollectionPage:
    """A page and the pictures that lie beside it.

    Attributes:
        html: the page.
        pictures: file name below `PICTURES` to the photo that it is made of.
        side: long side of the pictures in pixels.
    """

    html: str
    pictures: Mapping[str, Source]
    side: int


@dataclass(frozen=True, eq=False)
class CollectionContent:
    """Everything that the page is made of.

    Attributes:
        data_set: name of the collection.
        image_ids: of all `n` photos.
        sources: of all photos.
        contents: digest of each file, "" where it cannot be read.
        landmarks: name of the landmark of each photo, "" for none.
        audit: what became of every file (`collection.audit`).
        groups: of all photos.
        links: pairs that show one place: `row_a`, `row_b`, `probability`, `inliers`.
        duplicates: `keep`, `other` (ids), `kind`, `overlap`, `inliers`.
        doubts: `kind`, `row_a`, `row_b`, `probability`, `inliers`.
        uncompared: number of photos that were not compared, as they are train images.
        min_probability: P(same place) that links two photos.
    """

    data_set: str
    image_ids: Sequence[str]
    sources: Sequence[Source]
    contents: NDArray[np.str_]
    landmarks: Sequence[str]
    audit: pd.DataFrame
    groups: Groups
    links: pd.DataFrame
    duplicates: pd.DataFrame
    doubts: pd.DataFrame
    uncompared: int = 0
    min_probability: float = 0.95


@dataclass(frozen=True)
class _Link:
    one: int
    two: int
    probability: float
    inliers: int


@dataclass(frozen=True)
class _Group:
    number: int
    rows: Sequence[int]
    labels: Sequence[tuple[str, int]]
    links: Sequence[_Link] = field(default_factory=tuple)


def render_collection(content: CollectionContent, thumbnail_side: int = THUMBNAIL_SIDE) -> CollectionPage:
    """Return the page of a collection.

    Args:
        content: what it shows.
        thumbnail_side: long side of the pictures, pixels.
    """
    pictures = _picture_names(content, thumbnail_side)
    rows = {image_id: row for row, image_id in enumerate(content.image_ids)}
    alone = [
        row
        for row in range(len(content.image_ids) - content.uncompared)
        if content.groups.group[row] < 1 and pictures[row]
    ]
    duplicates = [
        {**pair, "keep": rows[pair["keep"]], "other": rows[pair["other"]]}
        for pair in content.duplicates.to_dict("records")
    ]
    html = template("collection.html.j2").render(
        data_set=content.data_set,
        ids=content.image_ids,
        captions=[caption(*pair) for pair in zip(content.image_ids, content.landmarks, strict=True)],
        landmarks=content.landmarks,
        pictures=pictures,
        folder=PICTURES,
        files=[_uri(source) for source in content.sources],
        counts=count_files(content.audit),
        met=len(content.audit),
        unused=_unused(content.audit),
        listed=LISTED,
        groups=_groups(content, LINKS),
        probabilities=content.groups.probability,
        duplicates=duplicates,
        alone=alone,
        doubts=content.doubts.head(DOUBTS).to_dict("records"),
        all_doubts=len(content.doubts),
        no_partner=NO_PARTNER,
        labelled=any(content.landmarks),
        uncompared=content.uncompared,
        min_probability=content.min_probability,
    )
    named = {name: source for name, source in zip(pictures, content.sources, strict=True) if name}
    return CollectionPage(html, named, thumbnail_side)


def _picture_names(content: CollectionContent, side: int) -> list[str]:
    """Return a file name for every photo that depends on what it shows, "" for one that cannot be shown."""
    broken = set(content.audit.loc[~content.audit["what"].isin([USED, SAME_BYTES]), "image_id"]) - {""}
    names = []
    for image_id, source, digits in zip(content.image_ids, content.sources, content.contents, strict=True):
        part = digest(source.box)[:6] if isinstance(source, CroppedImage) else ""
        names.append(f"{digits}{part}-{side}.jpg" if digits and image_id not in broken else "")
    return names


def _groups(content: CollectionContent, links: int) -> list[_Group]:
    of = content.groups.group
    inside = content.links[of[content.links["row_a"]] == of[content.links["row_b"]]]
    ordered = inside.sort_values(["probability", "inliers"], ascending=False, kind="stable")
    strongest = ordered.groupby(of[ordered["row_a"]]).head(links)
    by_group: dict[int, list[_Link]] = {}
    for link in strongest.to_dict("records"):
        one, two = int(link["row_a"]), int(link["row_b"])
        found = _Link(one, two, float(link["probability"]), int(link["inliers"]))
        by_group.setdefault(int(of[one]), []).append(found)
    groups = []
    for number, members in content.groups.members().items():
        labels = Counter(content.landmarks[row] for row in members.tolist() if content.landmarks[row])
        groups.append(_Group(number, members.tolist(), labels.most_common(), by_group.get(number, [])))
    return groups


def _unused(audit: pd.DataFrame) -> dict[str, list[dict[Hashable, Any]]]:
    """Return the files that are not simply used, by outcome."""
    others = audit[audit["what"] != USED]
    return {
        what: others[others["what"] == what].head(LISTED).to_dict("records")
        for what in count_files(audit)
        if what != USED
    }


def _uri(source: Source) -> str:
    path = Path(source)
    return path.as_uri() if path.is_absolute() else path.as_posix()

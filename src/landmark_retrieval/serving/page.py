"""Pages of search results: a file with everything in it, and what the web page is made of."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from landmark_retrieval.images import Source, image_sources
from landmark_retrieval.reporting.report import caption
from landmark_retrieval.reporting.templating import template
from landmark_retrieval.reporting.thumbnails import thumbnail, thumbnails
from landmark_retrieval.retrieval import Found, SearchIndex

SIDE = 200
"""Long side of the pictures in pixels."""


@dataclass(frozen=True)
class PhotoPage:
    """What is shown of one photo.

    Attributes:
        name: name of the photo.
        picture: address of its picture (may be a data URL).
        found: what was found; None where the photo could not be read.
        problem: why it could not be read.
    """

    name: str
    picture: str
    found: Found | None
    problem: str = ""


def render_results(page: PhotoPage, index: SearchIndex, address: Callable[[int], str]) -> str:
    """Return the results of one photo as a piece of HTML.

    Args:
        page: the photo and what was found.
        index: that was searched.
        address: gives the address of the picture of a table row.
    """
    shown = [] if page.found is None else sorted(shown_rows(page.found))
    landmarks = index.images["landmark"].iloc[shown].fillna("")
    captions = {
        row: caption(index.ids[row], landmark) for row, landmark in zip(shown, landmarks, strict=True)
    }
    return template("search_results.html.j2", "serving").render(
        page=page, ids=index.ids, captions=captions, address=address
    )


def render_search(pages: Sequence[tuple[str, Source, Found | None, str]], index: SearchIndex) -> str:
    """Return the results of some photos as one self-contained page.

    Args:
        pages: name, file, what was found (None where the photo could not be read), and why it could not.
        index: that was searched.
    """
    rows = sorted({row for _, _, found, _ in pages if found is not None for row in shown_rows(found)})
    sources = image_sources(index.images.iloc[rows])
    pictures = {
        row: data_url(picture)
        for row, picture in thumbnails(dict(zip(rows, sources, strict=True)), SIDE).items()
    }
    parts = [
        render_results(
            PhotoPage(name, data_url(thumbnail(source, 2 * SIDE)), found, problem),
            index,
            pictures.__getitem__,
        )
        for name, source, found, problem in pages
    ]
    return template("search.html.j2", "serving").render(parts=parts)


def shown_rows(found: Found) -> set[int]:
    """Return the table rows of all images that are shown of what was found."""
    rows = {result.row for result in found.results}
    for result in found.results:
        for step in result.path:
            rows |= {step.row, *step.train_rows}
    return rows


def data_url(jpeg: bytes) -> str:
    """Return a JPEG file as an address."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()

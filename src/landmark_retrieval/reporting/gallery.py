"""The gallery: for a sample of queries, what every variant found, and why."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader
from numpy.typing import NDArray
from PIL import Image

from landmark_retrieval.configuration import Configuration
from landmark_retrieval.images import UnreadableImageError, load_image


class GalleryConfig(Configuration):
    """What the gallery shows.

    Attributes:
        queries: sampled queries; those whose AP changes most between variants come first.
        results: results shown of each variant.
        paths: trusted paths shown of each query.
        thumbnail_side: long side of the pictures in pixels.
    """

    queries: int = 12
    results: int = 10
    paths: int = 3
    thumbnail_side: int = 160


@dataclass(frozen=True)
class Step:
    """One step of a trusted path: the image it reaches, and the edge that led there.

    Attributes:
        row: table row of the image.
        label_bridge: whether labels of training images led there rather than similarity.
        weight: similarity of the edge; not finite for a label bridge.
    """

    row: int
    label_bridge: bool
    weight: float


@dataclass(frozen=True)
class VariantResults:
    """What one variant found for one query.

    Attributes:
        name: of the variant.
        average_precision: AP@100, NaN when the query has no relevant image.
        rows: table rows of the first results.
        correct: whether each is relevant.
    """

    name: str
    average_precision: float
    rows: Sequence[int]
    correct: Sequence[bool]


@dataclass(frozen=True)
class QueryPage:
    """One query of the gallery.

    Attributes:
        row: table row of the query.
        variants: what each variant found.
        paths: trusted paths, each starting after the query.
    """

    row: int
    variants: Sequence[VariantResults]
    paths: Sequence[Sequence[Step]]


def choose_queries(average_precision: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Choose the queries that tell most: those whose AP differs most among the variants, ties by row.

    Args:
        average_precision: `[v, q]`; queries with NaN come last.
        count: queries to choose.
    """
    spread = np.nan_to_num(average_precision.max(axis=0) - average_precision.min(axis=0), nan=-1.0)
    return np.argsort(-spread, kind="stable")[:count]


def thumbnails(paths: Mapping[int, str], side: int) -> dict[int, str]:
    """Return small JPEG pictures as data addresses; unreadable images become a grey square.

    Args:
        paths: table row to file.
        side: long side in pixels.
    """
    with ThreadPoolExecutor() as pool:
        pictures = pool.map(lambda path: _thumbnail(path, side), paths.values())
        return dict(zip(paths, pictures, strict=True))


def render_gallery(
    pages: Sequence[QueryPage],
    pictures: Mapping[int, str],
    image_ids: Sequence[str],
    ablation: pd.DataFrame,
    skipped: pd.DataFrame,
    counts: Mapping[str, int],
) -> str:
    """Return the gallery as one self-contained HTML page.

    Args:
        pages: sampled queries.
        pictures: table row to data address, for every row that occurs in the pages.
        image_ids: of all table rows.
        ablation: the ablation table.
        skipped: images that could not be used: `image_id`, `reason`.
        counts: images of each split.
    """
    environment = Environment(
        loader=PackageLoader("landmark_retrieval.reporting"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("gallery.html.j2").render(
        pages=pages,
        pictures=pictures,
        ids=image_ids,
        ablation=ablation.to_dict("records"),
        skipped=skipped.to_dict("records"),
        counts=counts,
    )


def _thumbnail(path: str, side: int) -> str:
    try:
        image = load_image(path)
        image.thumbnail((side, side))
    except UnreadableImageError:
        image = Image.new("RGB", (side, side), "#999999")
    file = io.BytesIO()
    image.save(file, "JPEG", quality=75)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()

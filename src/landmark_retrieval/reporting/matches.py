"""Pictures of pairs that verification tried: two photos side by side, a line for each inlier."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from landmark_retrieval.collection import landmark_of
from landmark_retrieval.images import Source, UnreadableImageError, image_sources, load_image
from landmark_retrieval.local_features import LocalFeatureStore
from landmark_retrieval.verification import VerificationConfig, correspondences, pair_keys, pair_seed

QUALITY = 80
"""JPEG quality."""

GAP = 12
"""Pixels between the photos."""

SIDE = 260
"""Height of the pictures in pixels."""

LINES = 60
"""Most inliers drawn, evenly chosen."""

_HUES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's colours, in turn, so that neighbouring lines can be told apart."""


@dataclass(frozen=True)
class VerifiedMatch:
    """One pair of photos and what geometry found between them.

    Attributes:
        row_a: table row of the query.
        row_b: table row of the other photo.
        matches: tentative correspondences.
        points_a: float `[i, 2]` inliers, x and y in pixels of the first photo.
        points_b: float `[i, 2]` their counterparts.
        verified: whether the inliers reach the floor.
        correct: whether both show the same landmark; None where one has none.
        picture: JPEG file.
    """

    row_a: int
    row_b: int
    matches: int
    points_a: NDArray[np.float64]
    points_b: NDArray[np.float64]
    verified: bool
    correct: bool | None
    picture: bytes = b""


def choose_pairs(
    pairs: pd.DataFrame, landmarks: NDArray[np.int64], queries: Sequence[int], floor: int, count: int
) -> pd.DataFrame:
    """Choose pairs of some queries to draw: strong ones, and where geometry was wrong.

    A third each: right pairs with the most inliers; right pairs closest to the floor from either side; wrong
    pairs with the most inliers. A kind with too few leaves its places to the first.

    Args:
        pairs: the pairs that verification tried, with `row_a`, `row_b`, `inliers`.
        landmarks: int64 landmark of every table row, -1 for none.
        queries: table rows of queries; only their pairs count.
        floor: inliers from which a pair counts as verified.
        count: pairs to choose.

    Returns:
        The chosen rows of `pairs`, one of each query and kind.
    """
    own = pairs[pairs["row_a"].isin(list(queries)) & (pairs["inliers"] > 0)]
    landmark = landmarks[own["row_a"].to_numpy()]
    right = (landmark == landmarks[own["row_b"].to_numpy()]) & (landmark >= 0)
    by_inliers = np.argsort(-own["inliers"].to_numpy(), kind="stable")
    by_floor = np.argsort(np.abs(own["inliers"].to_numpy() - floor), kind="stable")
    kinds = [
        own.iloc[order[right[order] == wanted]].drop_duplicates("row_a")
        for order, wanted in ((by_inliers, True), (by_floor, True), (by_inliers, False))
    ]
    chosen = pd.concat([*(kind.head(count // 3) for kind in kinds), kinds[0]])
    return pd.DataFrame(chosen[~chosen.index.duplicated()].head(count))


def verified_matches(
    chosen: pd.DataFrame,
    images: pd.DataFrame,
    features: LocalFeatureStore,
    config: VerificationConfig,
    floor: int,
    side: int = SIDE,
) -> list[VerifiedMatch]:
    """Verify chosen pairs once more, with the same seeds and so the same inliers, and draw them.

    Args:
        chosen: from `choose_pairs`.
        images: the prepared image table.
        features: local features of its images.
        config: parameters of the verification.
        floor: inliers from which a pair counts as verified.
        side: height of the pictures in pixels.

    Returns:
        One match for each row of `chosen`, in its order.
    """
    resolved = config.resolve(features.extractor)
    landmarks, sources = landmark_of(images), image_sources(images)
    found = []
    for a, b in zip(chosen["row_a"].tolist(), chosen["row_b"].tolist(), strict=True):
        (key,), (swapped,) = pair_keys(features.keys[[a]], features.keys[[b]])
        first, second = (features.get(row) for row in ((b, a) if swapped else (a, b)))
        seed = pair_seed(config.seed, key.decode())
        matched, _, inliers = correspondences(first, second, resolved, seed)
        points_a = first.keypoints[matched[inliers, 0]].astype(np.float64)
        points_b = second.keypoints[matched[inliers, 1]].astype(np.float64)
        if swapped:
            points_a, points_b = points_b, points_a
        known = landmarks[a] >= 0 and landmarks[b] >= 0
        found.append(
            VerifiedMatch(
                row_a=a,
                row_b=b,
                matches=len(matched),
                points_a=points_a,
                points_b=points_b,
                verified=len(points_a) >= floor,
                correct=bool(landmarks[a] == landmarks[b]) if known else None,
                picture=draw_match(sources[a], sources[b], points_a, points_b, side),
            )
        )
    return found


def draw_match(
    photo_a: Source,
    photo_b: Source,
    points_a: NDArray[np.floating],
    points_b: NDArray[np.floating],
    side: int = SIDE,
) -> bytes:
    """Draw two photos at equal height with a line for each inlier, as a JPEG file.

    Args:
        photo_a: first file.
        photo_b: second file.
        points_a: `[i, 2]` x and y in pixels of the first photo.
        points_b: `[i, 2]` likewise of the second.
        side: height of the picture in pixels.

    Returns:
        The bytes of the file; photos that cannot be read are grey.
    """
    left, right = _open(photo_a), _open(photo_b)
    scales = side / left.height, side / right.height
    small = [
        image.resize((max(1, round(image.width * scale)), side))
        for image, scale in zip((left, right), scales, strict=True)
    ]
    sheet = Image.new("RGB", (small[0].width + GAP + small[1].width, side), "white")
    sheet.paste(small[0], (0, 0))
    sheet.paste(small[1], (small[0].width + GAP, 0))
    canvas = ImageDraw.Draw(sheet)
    drawn = np.linspace(0, len(points_a) - 1, min(LINES, len(points_a))).astype(int)
    ends = points_b * scales[1] + np.array([small[0].width + GAP, 0])
    for number, (start, end) in enumerate(zip((points_a * scales[0])[drawn], ends[drawn], strict=True)):
        colour = _HUES[number % len(_HUES)]
        canvas.line([*start, *end], fill=colour, width=1)
        for x, y in (start, end):
            canvas.ellipse([x - 3, y - 3, x + 3, y + 3], outline="white", fill=colour)
    file = io.BytesIO()
    sheet.save(file, "JPEG", quality=QUALITY, optimize=True)
    return file.getvalue()


def _open(photo: Source) -> Image.Image:
    try:
        return load_image(photo)
    except UnreadableImageError:
        return Image.new("RGB", (200, 200), "#9a9a9a")

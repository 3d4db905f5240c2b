"""Near-duplicates: the same bytes, or nearly the same picture, and which one to keep."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from landmark_retrieval.configuration import Configuration

SAME_BYTES = "same bytes"
SAME_PICTURE = "nearly the same picture"

COLUMNS = ("keep", "other", "kind", "overlap", "inliers")


class DuplicatesConfig(Configuration):
    """What counts as nearly the same picture.

    Attributes:
        min_probability: P(same place) of the pair.
        min_share: more than this share of the matches are inliers of the homography: pictures of one moment
            agree all over, other photos of a place in parts only.
        min_overlap: area that the frames share, divided by the area that they cover together, when one is
            laid onto the other by the homography.
    """

    min_probability: float = Field(default=0.99, gt=0, lt=1)
    min_share: float = Field(default=0.5, gt=0, le=1)
    min_overlap: float = Field(default=0.8, gt=0, le=1)


def frame_overlap(
    homographies: NDArray[np.float64], sizes_a: NDArray[np.float64], sizes_b: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return how far the frames of two pictures cover each other, intersection over union.

    Args:
        homographies: `[m, 3, 3]` from pixels of the first picture to pixels of the second.
        sizes_a: `[m, 2]` width and height of the first.
        sizes_b: `[m, 2]` of the second.

    Returns:
        `[m]` in 0 to 1; 0 where the frame does not stay convex.
    """
    import cv2

    overlaps = np.zeros(len(homographies))
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float64)
    for row, (homography, size_a, size_b) in enumerate(zip(homographies, sizes_a, sizes_b, strict=True)):
        points = np.hstack([corners * size_a, np.ones((4, 1))]) @ homography.T
        if (points[:, 2] <= 0).any():
            continue
        laid = (points[:, :2] / points[:, 2:]).astype(np.float32)
        if not cv2.isContourConvex(laid.reshape(-1, 1, 2)):
            continue
        frame = (corners * size_b).astype(np.float32)
        area, _ = cv2.intersectConvexConvex(laid, frame)
        union = cv2.contourArea(laid) + cv2.contourArea(frame) - area
        overlaps[row] = area / union if union > 0 else 0.0
    return overlaps


def find_alike(
    pairs: pd.DataFrame, size_of: Callable[[int], tuple[int, int]], n: int, config: DuplicatesConfig
) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """Return the tried pairs that are nearly the same picture, and the sizes that were looked at.

    Args:
        pairs: `row_a`, `row_b`, `matches`, `inliers`, `h11` ... `h33`, `probability`.
        size_of: width and height of a photo in the pixels that the homographies are in, (0, 0) when unknown.
        n: number of photos.
        config: parameters.

    Returns:
        Those of `pairs` with the column `overlap`, and int64 `[n]` width times height, 0 where not looked at.
    """
    close = pairs[
        (pairs["probability"] >= config.min_probability)
        & (pairs["inliers"] > config.min_share * pairs["matches"])
    ]
    sizes = np.zeros((n, 2))
    for row in np.unique(close[["row_a", "row_b"]].to_numpy()).tolist():
        sizes[row] = size_of(row)
    homographies = close[[f"h{i}{j}" for i in (1, 2, 3) for j in (1, 2, 3)]].to_numpy(np.float64)
    overlap = frame_overlap(homographies.reshape(-1, 3, 3), sizes[close["row_a"]], sizes[close["row_b"]])
    found = close.assign(overlap=overlap)
    return found[found["overlap"] >= config.min_overlap], sizes.prod(axis=1).astype(np.int64)


def near_duplicates(
    ids: Sequence[str],
    paths: Sequence[str],
    contents: NDArray[np.str_],
    pixels: NDArray[np.int64],
    alike: pd.DataFrame,
) -> pd.DataFrame:
    """Return the photos that repeat another, each with the one to keep.

    The larger picture is kept; of equal ones the one with the shorter, then the first path (`a.jpg` before
    `a copy.jpg`).

    Args:
        ids: of all `n` photos.
        paths: of all photos.
        contents: `[n]` digest of each file (and crop), "" where it cannot be read.
        pixels: `[n]` width times height, 0 where not known.
        alike: pairs that are nearly the same picture: `row_a`, `row_b`, `overlap`, `inliers`.

    Returns:
        Columns `COLUMNS`, the same bytes first, then by falling overlap.
    """

    def better(row: int) -> tuple[int, int, str]:
        return -int(pixels[row]), len(paths[row]), paths[row]

    rows: list[tuple[int, int, str, float, int]] = []
    by_content: dict[str, list[int]] = {}
    for row, content in enumerate(contents.tolist()):
        if content:
            by_content.setdefault(content, []).append(row)
    for same in by_content.values():
        kept, *others = sorted(same, key=better)
        rows += [(kept, other, SAME_BYTES, 1.0, 0) for other in others]
    for pair in alike.to_dict("records"):
        one, two = sorted((int(pair["row_a"]), int(pair["row_b"])), key=better)
        if not (contents[one] and contents[one] == contents[two]):
            rows.append((one, two, SAME_PICTURE, float(pair["overlap"]), int(pair["inliers"])))
    rows.sort(key=lambda row: (row[2] != SAME_BYTES, -row[3], -row[4], row[:2]))
    named = [
        (ids[one], ids[two], kind, round(overlap, 3), inliers) for one, two, kind, overlap, inliers in rows
    ]
    return pd.DataFrame(named, columns=list(COLUMNS))

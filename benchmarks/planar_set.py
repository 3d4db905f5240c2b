"""A synthetic data set of planar objects: photos hung up as posters in other photos. Nothing in it is real.

    python -m benchmarks.planar_set POSTERS BACKGROUNDS OUT [--count 150] [--distractors 150] [--seed 0]
    kedro run --env folder --params image_root=OUT

The index holds photos of POSTERS as they are; each query shows one of them, seen from the side, in a photo of
BACKGROUNDS, under another light, partly hidden, blurred and noisy: one positive a query. `images.csv` is
written last. What spatial verification must do there: bring the positive from the top 10 to the first place.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

Image = NDArray[np.uint8]

SIZE = (640, 480)
"""Width and height of a query."""


def shrink(image: Image, side: int) -> Image:
    zoom = min(1.0, side / max(image.shape[:2]))
    return cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)


def corners_seen(random: np.random.Generator, aspect: float) -> NDArray[np.float32]:
    """Return where the corners of a poster are seen: a plane, turned in space, before a pinhole camera.

    Args:
        random: source of chance.
        aspect: width by height of the poster.
    """
    width, height = SIZE
    tilt, swing, roll = random.uniform(-45, 45), random.uniform(-45, 45), random.uniform(-25, 25)
    rotation = np.eye(3)
    for angle, axis in zip(np.radians([tilt, swing, roll]), np.eye(3), strict=True):
        rotation = cv2.Rodrigues(angle * axis)[0] @ rotation
    share = random.uniform(0.6, 1.1)  # of the picture's smaller side, before it is turned
    half = share * height / 2 * np.array([np.sqrt(aspect), 1 / np.sqrt(aspect)])
    flat = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    points = np.c_[flat, np.zeros(4)] @ rotation.T
    depth = 900 + points[:, 2:]
    seen = 900 * points[:, :2] / depth
    room = np.array(SIZE) / 2 - np.abs(seen).max(axis=0)
    return np.float32(seen + np.array([width, height]) / 2 + random.uniform(-1, 1, 2) * np.maximum(room, 0))


def hang(poster: Image, background: Image, hider: Image, random: np.random.Generator) -> Image:
    """Return a query: the poster in the background, partly hidden by a piece of a third photo."""
    rows, columns = poster.shape[:2]
    picture = cv2.resize(background, SIZE, interpolation=cv2.INTER_AREA).astype(np.float32)
    seen = corners_seen(random, columns / rows)
    flat = np.float32([[0, 0], [columns, 0], [columns, rows], [0, rows]])
    warp = cv2.getPerspectiveTransform(flat, seen)
    lit = 255 * (poster / np.float32(255)) ** random.uniform(0.6, 1.8) * random.uniform(0.45, 1.1)
    lit = lit * random.uniform(0.85, 1.15, 3).astype(np.float32)
    glare = np.linspace(0, random.uniform(0, 70), columns, dtype=np.float32)[None, :, None]
    warped = cv2.warpPerspective(np.float32(lit + glare), warp, SIZE, flags=cv2.INTER_AREA)
    mask = cv2.warpPerspective(np.ones((rows, columns), np.float32), warp, SIZE)[:, :, None]
    picture = picture * (1 - mask) + warped * mask
    low, high = seen.min(axis=0), seen.max(axis=0)
    extent = np.maximum((high - low) * random.uniform(0.2, 0.6, 2), 8).astype(int)
    left, top = (random.uniform(np.maximum(low, 0), np.maximum(high - extent, 1))).astype(int)
    region = picture[top : top + extent[1], left : left + extent[0]]
    if region.size:
        region[:] = cv2.resize(hider, region.shape[1::-1], interpolation=cv2.INTER_AREA)
    picture = cv2.GaussianBlur(picture, (0, 0), random.uniform(0.3, 1.8))
    picture += random.normal(0, random.uniform(2, 10), picture.shape)
    return np.clip(picture, 0, 255).astype(np.uint8)


def write_set(
    posters: Sequence[Path], others: Sequence[Path], backgrounds: Sequence[Path], out: Path, seed: int
) -> None:
    """Write the data set.

    Args:
        posters: one photo a landmark.
        others: further photos of the index.
        backgrounds: photos that queries are set in.
        out: new folder.
        seed: of all chance.
    """
    (out / "images").mkdir(parents=True)
    rows = []

    def save(name: str, image: Image, split: str, landmark: int | None, quality: int = 90) -> None:
        cv2.imwrite(str(out / "images" / f"{name}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        rows.append((name, f"images/{name}.jpg", split, landmark))

    for number, path in enumerate(posters):
        random = np.random.default_rng((seed, number))
        poster = shrink(cv2.imread(str(path)), 640)
        behind, before = (cv2.imread(str(backgrounds[i])) for i in random.integers(0, len(backgrounds), 2))
        save(f"poster_{number:04d}", poster, "index", number)
        query = hang(poster, behind, shrink(before, 640), random)
        save(f"query_{number:04d}", query, "query", number, int(random.integers(35, 80)))
    for number, path in enumerate(others):
        save(f"other_{number:04d}", shrink(cv2.imread(str(path)), 640), "index", None)
    table = pd.DataFrame(rows, columns=["image_id", "path", "split", "landmark_id"])
    table["landmark_id"] = table["landmark_id"].astype("Int64")
    table.to_csv(out / "images.csv", index=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("posters", type=Path, help="folder of photos, taken by name, every other one")
    parser.add_argument("backgrounds", type=Path, help="folder of photos")
    parser.add_argument("out", type=Path, help="new folder")
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--distractors", type=int, default=150)
    parser.add_argument("--match", default="*", help="pattern of the names of the posters")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    found = sorted(arguments.posters.rglob("*.jpg"))
    # Neighbours by name may show the same thing; every other one is left out.
    posters = [path for path in found if path.match(arguments.match)][::2][: arguments.count]
    others = [path for path in found if not path.match(arguments.match)][: arguments.distractors]
    backgrounds = sorted(arguments.backgrounds.rglob("*.jpg"))
    write_set(posters, others, backgrounds, arguments.out, arguments.seed)
    print(f"{len(posters)} queries, {len(posters) + len(others)} index images in {arguments.out} (synthetic)")


if __name__ == "__main__":
    main()

"""A copy of a data set whose queries are turned, to measure what orientation costs.

    python -m benchmarks.turned_set SOURCE OUT [--angles right | any] [--seed 0]
    kedro run --env folder --params image_root=OUT

SOURCE is a folder with `images.csv`. `right` turns each query by 90, 180 or 270 degrees; `any` by any angle,
and keeps the largest upright rectangle inside the turned photo, so that no black corners give the angle away.
All other photos are linked, not copied. `angles.csv` lists the angles, counter-clockwise in degrees.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from landmark_retrieval.images import load_image

QUALITY = 95
"""JPEG quality of the turned queries."""

RIGHT_TURNS = {
    90: Image.Transpose.ROTATE_90,
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_270,
}


def inner_size(width: int, height: int, angle: float) -> tuple[int, int]:
    """Return width and height of the largest upright rectangle inside a turned one.

    Args:
        width: of the rectangle, in pixels.
        height: of the rectangle, in pixels.
        angle: by which it is turned, in degrees.
    """
    sine, cosine = abs(math.sin(math.radians(angle))), abs(math.cos(math.radians(angle)))
    long, short = max(width, height), min(width, height)
    if short <= 2 * sine * cosine * long or abs(sine - cosine) < 1e-9:
        # Two corners touch the long sides, at the middle of the short side.
        half = short / 2
        across, along = (half / sine, half / cosine) if width >= height else (half / cosine, half / sine)
    else:
        spread = cosine * cosine - sine * sine
        across = (width * cosine - height * sine) / spread
        along = (height * cosine - width * sine) / spread
    return max(1, int(across)), max(1, int(along))


def turned(image: Image.Image, angle: float) -> Image.Image:
    """Return an image turned counter-clockwise by an angle in degrees, without empty corners."""
    if angle in RIGHT_TURNS:
        return image.transpose(RIGHT_TURNS[int(angle)])
    width, height = inner_size(*image.size, angle)
    whole = image.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    left, top = (whole.width - width) // 2, (whole.height - height) // 2
    return whole.crop((left, top, left + width, top + height))


def write_set(source: Path, out: Path, angles: str, seed: int) -> int:
    """Write the data set and return its number of queries.

    Args:
        source: folder with `images.csv`.
        out: new folder.
        angles: `right` or `any`.
        seed: of the angles.
    """
    table = pd.read_csv(source / "images.csv", dtype=str, keep_default_na=False)
    (out / "images").mkdir(parents=True)
    random = np.random.default_rng(seed)
    drawn = {}
    for row in np.flatnonzero(table["split"] == "query"):
        angle = float(random.choice([90, 180, 270]) if angles == "right" else random.uniform(0, 360))
        image = turned(load_image(str(source / table["path"].iloc[row])), angle)
        name = f"images/turned_{row:06d}.jpg"
        image.save(out / name, quality=QUALITY)
        table.loc[row, "path"] = name
        drawn[table["image_id"].iloc[row]] = angle
    for row in np.flatnonzero(table["split"] != "query"):
        path = (source / table["path"].iloc[row]).resolve()
        name = f"images/other_{row:06d}{path.suffix}"
        (out / name).symlink_to(path)
        table.loc[row, "path"] = name
    table.to_csv(out / "images.csv", index=False)
    pd.DataFrame(drawn.items(), columns=["image_id", "angle"]).to_csv(out / "angles.csv", index=False)
    return len(drawn)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("source", type=Path, help="folder with images.csv")
    parser.add_argument("out", type=Path, help="new folder")
    parser.add_argument("--angles", choices=("right", "any"), default="right")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    count = write_set(arguments.source, arguments.out, arguments.angles, arguments.seed)
    print(f"{count} turned queries in {arguments.out}")


if __name__ == "__main__":
    main()

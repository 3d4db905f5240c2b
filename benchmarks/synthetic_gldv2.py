"""A synthetic Google Landmarks v2 at any scale: its file formats and proportions, with rendered pictures.

Made for rehearsals of whole runs without the data. It is not the data set: a "landmark" is a drawing of
coloured shapes, its "photos" are the drawing under random homographies, and no score on it says anything
about photographs. `python -m benchmarks.synthetic_gldv2 --scale 2000 --out DIR`
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click
import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field

from landmark_retrieval.collection.gldv2 import FOLDERS, SOLUTION
from landmark_retrieval.configuration import Configuration
from landmark_retrieval.errors import LandmarkRetrievalError

QUERIES, INDEX, TRAIN = 117_577, 761_757, 4_132_914
"""Images of the published data set."""

TRAIN_LANDMARKS, INDEX_LANDMARKS = 203_094, 101_302
CLEAN_IMAGES, CLEAN_LANDMARKS = 1_580_470, 81_313
PUBLIC, PRIVATE = 379, 750
"""Queries that are scored; all others are Ignored."""

MEDIAN_SIZE, SIZE_SPREAD = 8.0, 1.366
"""Log-normal distribution of train images a landmark: the published mean of 20.3, 38% of landmarks with at
most 5 images and 57% with at most 10 (Weyand et al., 2020, section 3)."""

NOTICE = "SYNTHETIC.txt"
_DRAWING = 1.5
"""Side of a drawing relative to its pictures, which show parts of it."""


class SyntheticConfig(Configuration):
    """What is made.

    Attributes:
        scale: the published numbers are divided by this; the number of scored queries, which would vanish,
            is kept at `min_scored` or more.
        seed: of everything; the same seed gives the same files.
        side: long side of the pictures in pixels; the short side is three quarters of it.
        shared: share of the index landmarks that have train images as well (not published; a guess).
        min_scored: scored queries at least, Public and Private together.
        distortion: how far the corners of a picture move in its drawing, as a share of its sides.
    """

    scale: float = Field(default=2000.0, ge=1)
    seed: int = 0
    side: int = Field(default=256, ge=48)
    shared: float = Field(default=0.7, gt=0, le=1)
    min_scored: int = Field(default=12, ge=2)
    distortion: float = Field(default=0.08, ge=0, le=0.3)


@dataclass(frozen=True)
class SyntheticPlan:
    """All that a synthetic data set holds but for its pixels.

    Attributes:
        images: `image_id`, `split`, `landmark` (of the drawing; -1 for a picture of its own), `view`.
        solution: `id`, `images`, `Usage` as published.
        clean: `landmark_id`, `images` as in train_clean.csv.
    """

    images: pd.DataFrame
    solution: pd.DataFrame
    clean: pd.DataFrame


def plan_synthetic(config: SyntheticConfig) -> SyntheticPlan:
    """Draw the numbers of images, their landmarks and the ground truth."""
    random = np.random.default_rng([config.seed, 1])
    numbers = {name: max(1, round(count / config.scale)) for name, count in _counts().items()}
    scored = max(config.min_scored, round((PUBLIC + PRIVATE) / config.scale))
    public = max(1, round(scored * PUBLIC / (PUBLIC + PRIVATE)))
    train = label_sizes(numbers["train_landmarks"], numbers["train"], random)
    index = label_sizes(numbers["index_landmarks"], numbers["index"], random)
    # Index landmarks: the first ones have train images, the others have drawings of their own.
    shared = min(round(config.shared * len(index)), len(train))
    drawings = np.concatenate(
        [random.permutation(len(train))[:shared], len(train) + np.arange(len(index) - shared)]
    )
    asked = drawings[random.integers(0, len(index), scored)]
    ignored = np.full(max(0, numbers["queries"] - scored), -1)
    landmarks = {
        "query": np.concatenate([asked, ignored]),
        "index": np.repeat(drawings, index),
        "train": np.repeat(np.arange(len(train)), train),
    }
    images = pd.concat(
        [_shuffled(split, values, config.seed, random) for split, values in landmarks.items()],
        ignore_index=True,
    )
    images["view"] = np.arange(len(images))
    return SyntheticPlan(images, _solution(images, public, random), _clean(images))


def label_sizes(landmarks: int, images: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Draw how many images each landmark has, with the long tail of the published labels.

    Args:
        landmarks: number of landmarks.
        images: number of all images, at least one a landmark.
        random: source of the draw.

    Returns:
        int64 `[landmarks]`, descending, at least 1 each, of sum `images`.
    """
    images = max(images, landmarks)
    drawn = random.lognormal(np.log(MEDIAN_SIZE), SIZE_SPREAD, landmarks)
    sizes = np.maximum(1, np.round(drawn * images / drawn.sum())).astype(np.int64)
    while (surplus := int(sizes.sum()) - images) != 0:
        movable = np.flatnonzero(sizes > 1) if surplus > 0 else np.arange(landmarks)
        # Large landmarks give or take first.
        chosen = movable[np.argsort(-sizes[movable], kind="stable")[: abs(surplus)]]
        sizes[chosen] -= np.sign(surplus)
    return np.sort(sizes)[::-1]


def write_synthetic(root: str | Path, config: SyntheticConfig, threads: int | None = None) -> SyntheticPlan:
    """Make the data set.

    Args:
        root: a folder that is empty or does not exist.
        config: what is made.
        threads: that render; None takes all cores.

    Returns:
        What was made.

    Raises:
        LandmarkRetrievalError: the folder holds something else.
    """
    folder = Path(root)
    if folder.exists() and any(folder.iterdir()) and not (folder / NOTICE).is_file():
        raise LandmarkRetrievalError(f"{folder}: is not empty; give an empty folder for the synthetic data")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NOTICE).write_text(
        f"Synthetic pictures in the file formats of Google Landmarks v2, at 1/{config.scale:g} of its size "
        f"(seed {config.seed}).\nThis is not the data set: scores on it say nothing about photographs.\n",
        encoding="utf-8",
    )
    plan = plan_synthetic(config)
    _write_tables(folder, plan)
    names = zip(plan.images["split"], plan.images["image_id"], strict=True)
    for path in {image_file(folder, split, image_id).parent for split, image_id in names}:
        path.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(partial(_render_landmark, folder, config), _by_landmark(plan.images)):
            pass
    return plan


def image_file(folder: Path, split: str, image_id: str) -> Path:
    """Return where an image of a split (`query`, `index`, `train`) is."""
    return folder / FOLDERS[split] / image_id[0] / image_id[1] / image_id[2] / f"{image_id}.jpg"


def draw_landmark(random: np.random.Generator, width: int, height: int) -> NDArray[np.uint8]:
    """Draw shapes of random colours, uint8 `[height, width, 3]`: corners enough for local features."""
    coarse = random.integers(60, 196, (6, 8, 3), dtype=np.uint8)
    drawing = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
    for number in range(140):
        colour = random.integers(0, 256, 3).tolist()
        x, y = (int(value) for value in random.integers(0, (width, height)))
        a, b = (int(value) for value in random.integers(max(3, width // 40), max(5, width // 10), 2))
        if number % 3 == 0:
            cv2.rectangle(drawing, (x, y), (x + a, y + b), colour, -1)
        elif number % 3 == 1:
            cv2.ellipse(
                drawing, (x, y), (a, b), float(random.integers(0, 180)), 0, 360, colour, -1, cv2.LINE_AA
            )
        else:
            corners = (np.array([x, y]) + random.integers(-a, a + 1, (3, 2))).astype(np.int32)
            cv2.fillPoly(drawing, [corners], colour, cv2.LINE_AA)
    return drawing


def photograph(
    drawing: NDArray[np.uint8], size: tuple[int, int], distortion: float, random: np.random.Generator
) -> NDArray[np.uint8]:
    """Return a picture `[height, width, 3]` of a drawing: a random homography, light and noise.

    Args:
        drawing: larger than the picture.
        size: (width, height) in pixels.
        distortion: how far corners move, as a share of the sides.
        random: source of the view.
    """
    width, height = size
    room = np.array([drawing.shape[1] - width, drawing.shape[0] - height])
    corner = random.uniform(0.25, 0.75, 2) * room
    box = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float32)
    moved = box + corner + random.uniform(-distortion, distortion, (4, 2)) * size
    homography = cv2.getPerspectiveTransform(moved.astype(np.float32), box)
    view = cv2.warpPerspective(
        drawing, homography, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    light, shade = random.uniform(0.8, 1.2), random.uniform(-15, 15)
    noisy = view * light + shade + random.normal(0, 4, view.shape)
    pixels: NDArray[np.uint8] = np.clip(noisy, 0, 255).astype(np.uint8)
    return pixels


def _counts() -> dict[str, int]:
    return {
        "queries": QUERIES,
        "index": INDEX,
        "train": TRAIN,
        "train_landmarks": TRAIN_LANDMARKS,
        "index_landmarks": INDEX_LANDMARKS,
    }


def _shuffled(
    split: str, landmarks: NDArray[np.int64], seed: int, random: np.random.Generator
) -> pd.DataFrame:
    ids = [
        hashlib.sha256(f"{seed} {split} {number}".encode()).hexdigest()[:16]
        for number in range(len(landmarks))
    ]
    order = random.permutation(len(landmarks))
    return pd.DataFrame({"image_id": ids, "split": split, "landmark": landmarks[order]})


def _solution(images: pd.DataFrame, public: int, random: np.random.Generator) -> pd.DataFrame:
    """Return the ground truth; annotators overlook an image now and then, so lists of one landmark differ."""
    queries = images[images["split"] == "query"]
    index = _lists(images[images["split"] == "index"])
    rows, scored = [], 0
    for query, landmark in zip(queries["image_id"], queries["landmark"], strict=True):
        if landmark < 0:
            rows.append((query, "None", "Ignored"))
            continue
        found = list(index[landmark])
        if len(found) > 2 and random.random() < 0.3:
            del found[int(random.integers(len(found)))]
        rows.append((query, " ".join(found), "Public" if scored < public else "Private"))
        scored += 1
    return pd.DataFrame(rows, columns=["id", "images", "Usage"])


def _clean(images: pd.DataFrame) -> pd.DataFrame:
    """Return the large landmarks with a share of their images, in the proportions of train_clean.csv."""
    train = images[images["split"] == "train"]
    lists = sorted(_lists(train).items(), key=lambda item: (-len(item[1]), item[0]))
    lists = lists[: max(1, round(len(lists) * CLEAN_LANDMARKS / TRAIN_LANDMARKS))]
    share = min(1.0, len(train) * CLEAN_IMAGES / TRAIN / sum(len(ids) for _, ids in lists))
    rows = [(landmark, " ".join(ids[: max(1, round(share * len(ids)))])) for landmark, ids in sorted(lists)]
    return pd.DataFrame(rows, columns=["landmark_id", "images"])


def _lists(images: pd.DataFrame) -> dict[int, list[str]]:
    """Return the image ids of every landmark, in the order of the images."""
    lists: dict[int, list[str]] = {}
    for landmark, image_id in zip(images["landmark"].tolist(), images["image_id"], strict=True):
        lists.setdefault(landmark, []).append(image_id)
    return lists


def _write_tables(folder: Path, plan: SyntheticPlan) -> None:
    images = plan.images
    for split, name in (("query", "test"), ("index", "index")):
        ids = images.loc[images["split"] == split, "image_id"]
        pd.DataFrame({"id": ids}).to_csv(folder / f"{name}.csv", index=False)
    train = images[images["split"] == "train"]
    urls = "https://synthetic.invalid/" + train["image_id"] + ".jpg"
    table = pd.DataFrame({"id": train["image_id"], "url": urls, "landmark_id": train["landmark"]})
    table.to_csv(folder / "train.csv", index=False)
    plan.clean.to_csv(folder / "train_clean.csv", index=False)
    plan.solution.to_csv(folder / SOLUTION, index=False)
    index = images[images["split"] == "index"]
    # As published, the index numbers its landmarks differently from the train set.
    numbers = pd.factorize(index["landmark"])[0]
    table = pd.DataFrame({"id": index["image_id"], "landmark_id": numbers})
    table.to_csv(folder / "index_image_to_landmark.csv", index=False)


def _by_landmark(images: pd.DataFrame) -> Iterator[pd.DataFrame]:
    own = images["landmark"] < 0
    for _, group in images[~own].groupby("landmark"):
        yield group
    for row in range(int(own.sum())):
        yield images[own].iloc[row : row + 1]


def _render_landmark(folder: Path, config: SyntheticConfig, group: pd.DataFrame) -> None:
    size = config.side, round(config.side * 0.75)
    landmark, view = int(group["landmark"].iloc[0]), int(group["view"].iloc[0])
    name = [2, landmark] if landmark >= 0 else [3, view]
    width, height = (round(side * _DRAWING) for side in size)
    drawing = draw_landmark(np.random.default_rng([config.seed, *name]), width, height)
    for split, image_id, view in zip(group["split"], group["image_id"], group["view"].tolist(), strict=True):
        picture = photograph(drawing, size, config.distortion, np.random.default_rng([config.seed, 4, view]))
        file = image_file(folder, split, image_id)
        cv2.imwrite(str(file), picture, [cv2.IMWRITE_JPEG_QUALITY, 85])


@click.command()
@click.option("--scale", default=2000.0, show_default=True, help="The published numbers are divided by this.")
@click.option("--out", required=True, type=click.Path(file_okay=False), help="Empty folder to fill.")
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same files.")
@click.option("--side", default=256, show_default=True, help="Long side of the pictures in pixels.")
def main(scale: float, out: str, seed: int, side: int) -> None:
    """Make a synthetic Google Landmarks v2: not the data set, only its shape."""
    try:
        plan = write_synthetic(out, SyntheticConfig(scale=scale, seed=seed, side=side))
    except (LandmarkRetrievalError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    counts = plan.images["split"].value_counts()
    click.echo(
        f"synthetic GLDv2 at 1/{scale:g} in {out}: {counts['query']} queries "
        f"({int((plan.solution['Usage'] != 'Ignored').sum())} scored), {counts['index']} index images, "
        f"{counts['train']} train images"
    )


if __name__ == "__main__":
    main()

"""Reader of the Google Landmarks Dataset v2 (Weyand et al., CVPR 2020), from its files as published.

The landmark numbers of the train set and those of the index are two different numberings, and what a query
should find is listed image by image in the solution. So train images carry their landmark, queries their
list, and index images nothing.
"""

from __future__ import annotations

import logging
from itertools import islice
from pathlib import Path
from typing import Literal

import pandas as pd

from landmark_retrieval.errors import LandmarkRetrievalError

logger = logging.getLogger(__name__)

FOLDERS = {"query": "test", "index": "index", "train": "train"}
"""Folder of the images of each split."""

SOLUTION = "retrieval_solution_v2.1.csv"
"""The ground truth that is in force since September 2019."""

_PLACES = ("", "metadata", "ground_truth", "train", "index", "test")
_ID = r"[0-9A-Za-z_-]{3,64}"
_SAMPLE = 100
"""Images of each split that are looked for before a run starts."""


def read_gldv2(
    root: str | Path,
    train: Literal["all", "clean", "none"] = "all",
    queries: Literal["all", "scored"] = "all",
) -> pd.DataFrame:
    """Read the data set into one raw table; a few seconds for its five million rows.

    Tables are looked for in the folder itself and in its folders `metadata`, `ground_truth`, `train`, `index`
    and `test`; images are at `train`, `index` and `test`, each at `a/b/c/abc….jpg`.

    Args:
        root: the folder.
        train: `all` (train.csv), `clean` (train_clean.csv, 1.6 million images) or `none`.
        queries: `all` test images, or only the `scored` ones (Public and Private), of which there are few.

    Returns:
        A raw table for `prepare_image_table`: `image_id`, `path`, `split`, `landmark_id` (train only),
        `usage` and `relevant` (queries only).

    Raises:
        LandmarkRetrievalError: a file or folder is missing, a table has another form, or the solution names
            a query that is no test image. Single missing images are no error.
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise LandmarkRetrievalError(
            f"{folder}: no such folder; give the folder of GLDv2 with `--params data_root=DIR` "
            "(`kedro data-set check gldv2 --data-root DIR` says what belongs there)"
        )
    parts = [_queries(folder, queries), _plain(folder, "index")]
    if train != "none":
        parts.append(_train(folder, train))
    names = ["query", "index", "train"][: len(parts)]
    for part, split in zip(parts, names, strict=True):
        _check_ids(folder, part, split)
        ids = part["image_id"]
        base = f"{folder.absolute()}/{FOLDERS[split]}/"
        part.insert(1, "path", base + ids.str[0] + "/" + ids.str[1] + "/" + ids.str[2] + "/" + ids + ".jpg")
        part.insert(2, "split", split)
        _check_images(folder, part, split)
    raw = pd.concat(parts, ignore_index=True)
    raw.attrs["table"] = str(folder)
    return raw if "landmark_id" in raw else raw.assign(landmark_id=None)


def find_table(folder: Path, name: str) -> Path | None:
    """Return where a table of the data set is below its folder, None when it is not there."""
    return next((file for place in _PLACES if (file := folder / place / name).is_file()), None)


def _read(folder: Path, name: str, columns: list[str]) -> pd.DataFrame:
    file = find_table(folder, name)
    if file is None:
        raise LandmarkRetrievalError(
            f"{folder}: {name} is missing; get it with `kedro data-set download gldv2 --data-root {folder} "
            "--part metadata`"
        )
    try:
        header = pd.read_csv(file, nrows=0, encoding="utf-8-sig").columns.tolist()
        missing = [column for column in columns if column not in header]
        if missing:
            raise LandmarkRetrievalError(
                f"{file}: column {', '.join(missing)} is missing; expected {', '.join(columns)}, found "
                f"{', '.join(header) or 'none'}"
            )
        return pd.read_csv(
            file, usecols=columns, dtype="str", keep_default_na=False, na_values=[""], encoding="utf-8-sig"
        )
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise LandmarkRetrievalError(f"{file}: cannot be read as a table ({reason})") from None


def _plain(folder: Path, split: str) -> pd.DataFrame:
    return pd.DataFrame({"image_id": _read(folder, f"{FOLDERS[split]}.csv", ["id"])["id"]})


def _queries(folder: Path, which: str) -> pd.DataFrame:
    queries = _plain(folder, "query")
    solution = _read(folder, SOLUTION, ["id", "images", "Usage"])
    unknown = ~solution["id"].isin(queries["image_id"])
    if unknown.any():
        raise LandmarkRetrievalError(
            f"{folder}: {SOLUTION} names query '{solution['id'][unknown].iloc[0]}', which is not in "
            "test.csv; use files of one version of the data set"
        )
    repeated = solution["id"].duplicated()
    if repeated.any():
        raise LandmarkRetrievalError(
            f"{folder}: {SOLUTION} gives query '{solution['id'][repeated].iloc[0]}' twice; get the file again"
        )
    truth = solution.set_index("id")
    usage = truth["Usage"].reindex(queries["image_id"])
    if usage.isna().any():
        logger.info("%s: %d test images are not in %s: ignored", folder, int(usage.isna().sum()), SOLUTION)
    queries["usage"] = usage.fillna("Ignored").to_numpy()
    relevant = truth["images"].reindex(queries["image_id"]).reset_index(drop=True)
    queries["relevant"] = relevant.where(relevant != "None").where(queries["usage"] != "Ignored")
    if which == "scored":
        queries = queries[queries["relevant"].notna()].reset_index(drop=True)
    return queries


def _train(folder: Path, which: Literal["all", "clean"]) -> pd.DataFrame:
    if which == "all":
        table = _read(folder, "train.csv", ["id", "landmark_id"])
        return pd.DataFrame({"image_id": table["id"], "landmark_id": table["landmark_id"]})
    table = _read(folder, "train_clean.csv", ["landmark_id", "images"])
    return (
        pd.DataFrame({"image_id": table["images"].str.split(), "landmark_id": table["landmark_id"]})
        .explode("image_id")
        .dropna(subset=["image_id"])
        .astype({"image_id": "str"})
    )


def _check_ids(folder: Path, part: pd.DataFrame, split: str) -> None:
    bad = ~part["image_id"].str.fullmatch(_ID, na=False)
    if bad.any():
        raise LandmarkRetrievalError(
            f"{folder}: '{part['image_id'][bad].iloc[0]}' is no image id of the {FOLDERS[split]} set "
            "(three or more letters and digits); get its table again"
        )


def _check_images(folder: Path, part: pd.DataFrame, split: str) -> None:
    name = FOLDERS[split]
    if not len(part):
        raise LandmarkRetrievalError(f"{folder}: the table of the {name} set is empty; get it again")
    step = max(1, len(part) // _SAMPLE)
    if not any(Path(path).is_file() for path in islice(part["path"], 0, None, step)):
        raise LandmarkRetrievalError(
            f"{folder}: no image of the {name} set is there, such as {part['path'].iloc[0]}; get them with "
            f"`kedro data-set download gldv2 --data-root {folder} --part {name}`"
        )

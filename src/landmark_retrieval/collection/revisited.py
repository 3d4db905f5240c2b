"""Reader of Revisited Oxford and Paris (Radenović et al., CVPR 2018), with its million distractors.

Queries are cropped to their boxes before anything else, as the protocol demands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from landmark_retrieval.collection.plain_pickle import read_plain_pickle
from landmark_retrieval.errors import LandmarkRetrievalError

DISTRACTORS = "revisitop1m"
"""Name of the set of distractors: its folder and its list of images (`revisitop1m.txt`)."""

GroundTruth = Mapping[str, Any]
"""`imlist` and `qimlist` (names without extension), `gnd` (a query: easy, hard, junk: numbers; bbx: box)."""


def read_revisited(
    root: str | Path,
    name: Literal["roxford5k", "rparis6k"],
    distractors: bool = False,
    photos_needed: bool = True,
) -> pd.DataFrame:
    """Read one of the two data sets into one raw table.

    Args:
        root: folder with the data set: `gnd_<name>.pkl` (or `.mat`) and `jpg/`, directly in it, in its folder
            `<name>`, or in `datasets/<name>` (as the released program lays it out).
        name: `roxford5k` or `rparis6k`.
        distractors: add the million images of `revisitop1m` to the index; the folder of that name is looked
            for beside the data set and in `root`.
        photos_needed: refuse a folder without the photos.

    Returns:
        A raw table for `prepare_image_table`: `image_id`, `path`, `split`, `landmark_id` (empty), and of
        queries `crop`, `relevant` (easy and hard images), `hard` and `junk`.

    Raises:
        LandmarkRetrievalError: a file or folder is missing, or the ground truth has another form. Single
            missing images are no error.
    """
    folder, file = find_ground_truth(root, name)
    truth = read_ground_truth(file)
    index = _names(truth, "imlist", file)
    index_rows = pd.DataFrame({"image_id": index, "split": "index"})
    raw = pd.concat([_queries(truth, index, file), index_rows], ignore_index=True)
    raw.insert(1, "path", f"{folder.absolute()}/jpg/" + raw["image_id"] + ".jpg")
    if distractors:
        raw = pd.concat([raw, _distractors(Path(root).expanduser(), folder)], ignore_index=True)
    if photos_needed:
        _check_images(folder, raw, name)
    raw["landmark_id"] = None
    raw.attrs["table"] = str(file)
    return raw


def find_ground_truth(root: str | Path, name: str) -> tuple[Path, Path]:
    """Return the folder of a data set and its ground truth file.

    Raises:
        LandmarkRetrievalError: it is not there.
    """
    start = Path(root).expanduser()
    for folder in (start, start / name, start / "datasets" / name):
        for ending in ("pkl", "mat"):
            file = folder / f"gnd_{name}.{ending}"
            if file.is_file():
                return folder, file
    raise LandmarkRetrievalError(
        f"{start}: gnd_{name}.pkl (or .mat) is not there; give the folder of the data set with `--params "
        f"data_root=DIR` (`kedro data-set check {name} --data-root DIR` says what belongs there)"
    )


def read_ground_truth(file: Path) -> GroundTruth:
    """Read a ground truth file of either form, without executing anything in it.

    Returns:
        `imlist`, `qimlist` and `gnd`, numbers counted from 0 and boxes in pixels.

    Raises:
        LandmarkRetrievalError: the file is damaged or of another form.
    """
    content = _read_mat(file) if file.suffix == ".mat" else read_plain_pickle(file)
    missing = [
        key for key in ("imlist", "qimlist", "gnd") if not isinstance(content, dict) or key not in content
    ]
    if missing:
        raise LandmarkRetrievalError(f"{file}: {', '.join(missing)} is missing; get the file again")
    return dict(content)


def find_distractors(root: Path, folder: Path) -> Path | None:
    """Return the folder of the distractors beside a data set or in the root, None when it is not there."""
    places = (folder.parent, root, root / "datasets")
    return next((place / DISTRACTORS for place in places if (place / DISTRACTORS).is_dir()), None)


def _distractors(root: Path, folder: Path) -> pd.DataFrame:
    place = find_distractors(root, folder)
    file = place / f"{DISTRACTORS}.txt" if place else None
    if place is None or file is None or not file.is_file():
        raise LandmarkRetrievalError(
            f"{root}: {DISTRACTORS}/{DISTRACTORS}.txt is not there; leave `distractors` out or get the set "
            f"(`kedro data-set check {DISTRACTORS} --data-root {root}`)"
        )
    files = pd.Series(file.read_text(encoding="utf-8").split(), dtype="str")
    bad = files.str.contains(r"\.\.|^/|\\|[,\"]", regex=True)
    if bad.any():
        raise LandmarkRetrievalError(f"{file}: '{files[bad].iloc[0]}' is no file name; get the list again")
    bare = ~files.str.contains(r"\.[A-Za-z]+$", regex=True)
    paths = f"{place.absolute()}/jpg/" + files.mask(bare, files + ".jpg")
    ids = f"{DISTRACTORS}/" + files.str.replace(r"\.[A-Za-z]+$", "", regex=True)
    return pd.DataFrame({"image_id": ids, "path": paths, "split": "index"})


def _queries(truth: GroundTruth, index: list[str], file: Path) -> pd.DataFrame:
    queries, entries = _names(truth, "qimlist", file), truth.get("gnd")
    if not isinstance(entries, Sequence) or len(entries) != len(queries):
        raise LandmarkRetrievalError(
            f"{file}: gnd is not a list of {len(queries)} queries; get the file again"
        )
    names = np.array(index, dtype=object)

    def listed(query: int, *kinds: str) -> str:
        rows = np.concatenate([_rows(entries[query], kind, len(names), file) for kind in kinds])
        return " ".join(names[rows])

    numbers = range(len(queries))
    return pd.DataFrame(
        {
            "image_id": queries,
            "split": "query",
            "crop": [_box(entry, file) for entry in entries],
            "relevant": [listed(query, "easy", "hard") for query in numbers],
            "hard": [listed(query, "hard") for query in numbers],
            "junk": [listed(query, "junk") for query in numbers],
        }
    )


def _check_images(folder: Path, raw: pd.DataFrame, name: str) -> None:
    step = max(1, len(raw) // 200)
    if not any(Path(path).is_file() for path in islice(raw["path"], 0, None, step)):
        raise LandmarkRetrievalError(
            f"{folder}: no image of {name} is there, such as {raw['path'].iloc[0]}; "
            f"`kedro data-set check {name}` says where to get them"
        )


def _names(truth: GroundTruth, key: str, file: Path) -> list[str]:
    names = [str(name) for name in truth[key]]
    for name in names:
        if not name or name != name.strip() or "/" in name or "\\" in name:
            raise LandmarkRetrievalError(f"{file}: {key} holds {name!r}, which is no image name")
    return names


def _rows(entry: Any, kind: str, images: int, file: Path) -> np.ndarray[Any, np.dtype[np.int64]]:
    try:
        rows = np.asarray(entry[kind], dtype=np.int64).ravel()
    except (KeyError, TypeError, ValueError, IndexError):
        raise LandmarkRetrievalError(
            f"{file}: a query has no list '{kind}' of image numbers; get the file of the revisited annotation"
        ) from None
    if len(rows) and not 0 <= rows.min() <= rows.max() < images:
        raise LandmarkRetrievalError(f"{file}: a list '{kind}' names an image beyond the {images} of imlist")
    return rows


def _box(entry: Any, file: Path) -> str:
    try:
        box = np.asarray(entry["bbx"], dtype=np.float64).ravel()
    except (KeyError, TypeError, ValueError, IndexError):
        box = np.empty(0)
    if len(box) != 4 or not np.isfinite(box).all():
        raise LandmarkRetrievalError(f"{file}: a query has no box 'bbx' of four numbers; get the file again")
    return " ".join(f"{side:.6g}" for side in box)


def _read_mat(file: Path) -> dict[str, Any]:
    from scipy.io import loadmat

    try:
        content = loadmat(file, squeeze_me=True, chars_as_strings=True)
        entries = []
        for record in np.atleast_1d(content["gnd"]):
            entry = {
                kind: np.atleast_1d(record[kind]).astype(np.int64) - 1 for kind in ("easy", "hard", "junk")
            }
            entries.append({**entry, "bbx": np.atleast_1d(record["bbx"])})
        lists = {key: [str(name) for name in np.atleast_1d(content[key])] for key in ("imlist", "qimlist")}
    except Exception as error:  # damaged files raise many types
        reason = " ".join(str(error).split()) or type(error).__name__
        raise LandmarkRetrievalError(
            f"{file}: cannot be read as ground truth ({reason}); get the file again from its publisher"
        ) from None
    return {**lists, "gnd": entries}

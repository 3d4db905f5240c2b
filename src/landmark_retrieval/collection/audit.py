"""What became of every file: one table, one sentence."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from landmark_retrieval.collection.walk import OUTCOMES, SAME_BYTES, UNDECODABLE, USED

logger = logging.getLogger(__name__)


def audit_files(
    files: pd.DataFrame, images: pd.DataFrame, contents: NDArray[np.str_], skipped: pd.DataFrame
) -> pd.DataFrame:
    """Say of every file that was met what became of it.

    A file with the same bytes as one before it is an image like any other; it is named here, as it is found
    without fail and keeps a place that another photo could have.

    Args:
        files: `RawCollection.files`; empty where only a table was read, which then stands for them.
        images: prepared image table.
        contents: digest of every image's file, `[n]`, "" where it cannot be read.
        skipped: `image_id` and `reason` of the images that could not be decoded.

    Returns:
        Columns `path`, `what` (one of `walk.OUTCOMES`), `other` (path of the file that it repeats), `why`,
        `image_id`; what is used comes first, then by path.
    """
    ids = images["image_id"].astype(str)
    if not len(files):
        files = pd.DataFrame({"path": images["path"].astype(str), "image_id": ids})
        files = files.assign(what=USED, other="", why="")
    audit = files.fillna("").set_index("image_id", drop=False)
    used = audit[audit["what"] == USED]
    by_id = used["path"].to_dict()
    first: dict[str, str] = {}
    what, other, why = dict.fromkeys(by_id, USED), dict.fromkeys(by_id, ""), used["why"].to_dict()
    crops = images["crop"].fillna("").astype(str) if "crop" in images else [""] * len(images)
    for image_id, content, crop in zip(ids, contents.tolist(), crops, strict=True):
        if content and image_id in by_id and first.setdefault(content + crop, image_id) != image_id:
            what[image_id], other[image_id] = SAME_BYTES, by_id[first[content + crop]]
    for image_id, reason in zip(skipped["image_id"].astype(str), skipped["reason"], strict=True):
        if image_id in by_id:
            what[image_id], other[image_id] = UNDECODABLE, ""
            why[image_id] = str(reason).removeprefix("cannot be decoded (").removesuffix(")")
    rows = used.assign(what=used.index.map(what), other=used.index.map(other), why=used.index.map(why))
    joined = pd.concat([rows, audit[audit["what"] != USED]])
    order = joined["what"].map({name: place for place, name in enumerate(OUTCOMES)})
    joined = joined.assign(order=order).sort_values(["order", "path"], kind="stable")
    return joined[["path", "what", "other", "why", "image_id"]].reset_index(drop=True)


def count_files(audit: pd.DataFrame) -> dict[str, int]:
    """Return how many files came to what, in the order of `walk.OUTCOMES`, without what did not occur."""
    counts = audit["what"].value_counts()
    return {what: int(counts[what]) for what in OUTCOMES if what in counts}


def audit_in_words(audit: pd.DataFrame) -> str:
    """Return the audit as one line."""
    counts = ", ".join(f"{count:,} {what}" for what, count in count_files(audit).items())
    return f"{len(audit):,} files: {counts}"


def leaks(audit: pd.DataFrame, images: pd.DataFrame) -> list[tuple[str, str]]:
    """Return pairs of images of different splits that have the same bytes: with them figures are too good.

    Args:
        audit: as `audit_files` returns it.
        images: prepared image table.

    Returns:
        Ids, the second one is the image that the audit names as the first with these bytes.
    """
    same = audit[audit["what"] == SAME_BYTES]
    named = audit[audit["image_id"] != ""]
    ids = dict(zip(named["path"], named["image_id"], strict=True))
    splits = dict(zip(images["image_id"].astype(str), images["split"], strict=True))
    pairs = [(str(row.image_id), str(ids[row.other])) for row in same.itertuples()]
    return [(one, two) for one, two in pairs if splits[one] != splits[two]]

"""The metrics of `gld` on tables of ids: any submission against any solution file."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.evaluation.gld import DEPTH, IGNORED, score_queries

USAGES = ("Public", "Private", IGNORED)
"""What the column `Usage` of a solution may hold, if it is not empty (of a query in neither part)."""


def score_submission(submission: pd.DataFrame, solution: pd.DataFrame) -> pd.DataFrame:
    """Score every query of a solution.

    Args:
        submission: `id`, `images` (ids separated by spaces, best first; only the first 100 count). A query of
            the solution that is missing here counts as having no results.
        solution: `id`, `images` (relevant ids separated by spaces; empty or `None` for none) and optionally
            `Usage`. Submitted results of `Ignored` queries are accepted and not scored.

    Returns:
        One row a query of the solution, in its order: `id`, then the columns of `gld.score_queries`, from
        which `gld.summarise` makes the metrics of the submission.

    Raises:
        LandmarkRetrievalError: a column is missing, a query is given twice or is not in the solution, or a
            usage is unknown.
    """
    _check_table(submission, "submission")
    _check_table(solution, "solution")
    ids = solution["id"].astype(str).tolist()
    row_of = {query: row for row, query in enumerate(ids)}
    truth = [_split(images) for images in solution["images"]]
    results: list[list[str]] = [[] for _ in ids]
    for query, images in zip(submission["id"].astype(str), submission["images"], strict=True):
        if query not in row_of:
            raise LandmarkRetrievalError(
                f"submission: query '{query}' is not in the solution; remove its row or use the solution "
                "that belongs to this submission"
            )
        results[row_of[query]] = _split(images)[:DEPTH]
    number: dict[str, int] = {}
    for image in (image for images in (*truth, *results) for image in images):
        number.setdefault(image, len(number))
    ranking = np.full((len(ids), DEPTH), -1, dtype=np.int32)
    for row, images in enumerate(results):
        ranking[row, : len(images)] = [number[image] for image in images]
    relevant = [np.array([number[image] for image in images], dtype=np.int64) for images in truth]
    scores = score_queries(ranking, relevant, _usage(solution))
    scores.insert(0, "id", ids)
    return scores


def _check_table(table: pd.DataFrame, name: str) -> None:
    missing = [column for column in ("id", "images") if column not in table]
    if missing:
        raise LandmarkRetrievalError(
            f"{name}: column {', '.join(missing)} is missing; expected are id, images"
            f"{', Usage' if name == 'solution' else ''}, found {', '.join(map(str, table.columns)) or 'none'}"
        )
    repeated = table["id"].astype(str)[table["id"].astype(str).duplicated()]
    if len(repeated):
        raise LandmarkRetrievalError(f"{name}: query '{repeated.iloc[0]}' is given twice; keep one row")


def _usage(solution: pd.DataFrame) -> NDArray[np.str_] | None:
    if "Usage" not in solution:
        return None
    usage = solution["Usage"].astype(str)
    unknown = ~usage.isin([*USAGES, ""])
    if unknown.any():
        row = int(unknown.to_numpy().argmax())
        raise LandmarkRetrievalError(
            f"solution: Usage '{usage.iloc[row]}' of query '{solution['id'].iloc[row]}' is unknown; allowed "
            f"are {', '.join(USAGES)}"
        )
    return usage.to_numpy(dtype=str)


def _split(images: object) -> list[str]:
    """Return the ids of a cell; pandas reads empty cells as missing, and solutions write `None`."""
    if not isinstance(images, str) or images.strip() in ("", "None"):
        return []
    return images.split()

"""Submission and solution files of the challenge: `id,images[,Usage]`, image ids separated by spaces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from landmark_retrieval.collection import SplitRows, prepare_image_table, relevant_index_rows
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.evaluation.gld import DEPTH


def make_submission(
    ranking: NDArray[np.int32],
    query_ids: Sequence[str] | NDArray[np.str_],
    index_ids: Sequence[str] | NDArray[np.str_],
) -> pd.DataFrame:
    """Return a submission of all queries.

    Args:
        ranking: int32 `[q, any]` index rows, best first, -1 where there is no result; the first 100 results
            are kept.
        query_ids: `[q]`.
        index_ids: `[n]`.

    Returns:
        Columns `id` and `images` (empty text for a query without results), one row a query, in their order.

    Raises:
        LandmarkRetrievalError: an id is empty or contains white space, which would split it; or the ranking
            does not fit the ids.
    """
    queries, index = _ids(query_ids), _ids(index_ids)
    if len(ranking) != len(queries):
        raise LandmarkRetrievalError(
            f"the ranking has {len(ranking)} rows for {len(queries)} queries; make it again from the same "
            "image table"
        )
    if ranking.size and int(ranking.max()) >= len(index):
        raise LandmarkRetrievalError(
            f"the ranking names index row {int(ranking.max())} but there are {len(index)} index images; make "
            "it again from the same image table"
        )
    images = [" ".join(index[row[row >= 0][:DEPTH]]) for row in ranking]
    return pd.DataFrame({"id": queries.astype(object), "images": images}).astype(
        {"id": "str", "images": "str"}
    )


def read_submission(path: str | Path) -> pd.DataFrame:
    """Read a submission file.

    Returns:
        Columns `id` and `images` as text, as written; other columns are dropped.

    Raises:
        LandmarkRetrievalError: the file is missing, is not such a table, or gives a query twice.
    """
    return _read(path, ["id", "images"], [])


def read_solution(path: str | Path) -> pd.DataFrame:
    """Read a solution file, such as `retrieval_solution_v2.1.csv`.

    Returns:
        Columns `id`, `images` and, when the file has it, `Usage`, as text, as written.

    Raises:
        LandmarkRetrievalError: the file is missing, is not such a table, or gives a query twice.
    """
    return _read(path, ["id", "images"], ["Usage"])


def read_truth(path: str | Path) -> pd.DataFrame:
    """Read what queries should find from a solution file, or from an image table with splits.

    An image table is known by its column `image_id`: `images.csv` or the prepared `image_table.csv`.

    Returns:
        As `read_solution`.

    Raises:
        LandmarkRetrievalError: the file is missing, or is neither of the two as it should be.
    """
    table = _parse(path, "id, images")
    if "image_id" not in table:
        return read_solution(path)
    if "split" not in table:
        raise LandmarkRetrievalError(
            f"{path}: column split is missing, so nothing says which images are queries; give the prepared "
            "table of the run, data/02_intermediate/<data set>/image_table.csv"
        )
    table.index = pd.RangeIndex(2, len(table) + 2, name="line")
    table.attrs["table"] = str(path)
    return make_solution(prepare_image_table(table))


def make_solution(images: pd.DataFrame) -> pd.DataFrame:
    """Return what the queries of an image table should find, as a solution.

    Args:
        images: a prepared table.

    Returns:
        Columns `id`, `images` and, where queries have a usage, `Usage`; one row a query, in their order.
    """
    rows = SplitRows.from_table(images)
    index_ids = images["image_id"].iloc[rows.index].to_numpy(dtype=object)
    solution = pd.DataFrame(
        {
            "id": images["image_id"].iloc[rows.asked].to_numpy(dtype=object),
            "images": [" ".join(index_ids[relevant]) for relevant in relevant_index_rows(images)],
        }
    )
    usage = images["usage"].iloc[rows.asked]
    return solution if usage.isna().all() else solution.assign(Usage=usage.fillna("").to_numpy())


def _ids(ids: Sequence[Any] | NDArray[Any]) -> NDArray[Any]:
    array = np.asarray(ids, dtype=object)
    for image_id in array:
        if not isinstance(image_id, str) or len(image_id.split()) != 1 or image_id.strip() != image_id:
            raise LandmarkRetrievalError(
                f"image id {image_id!r} is empty or contains white space, which separates ids in submission "
                "files; rename it in the image table"
            )
    return array


def _parse(path: str | Path, columns: str) -> pd.DataFrame:
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except FileNotFoundError:
        raise LandmarkRetrievalError(f"{path}: no such file; check the path") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, OSError) as error:
        raise LandmarkRetrievalError(
            f"{path}: not a table of {columns} ({error}); expected comma-separated text with a header line"
        ) from None


def _read(path: str | Path, required: list[str], optional: list[str]) -> pd.DataFrame:
    table = _parse(path, ", ".join(required))
    missing = [column for column in required if column not in table]
    if missing:
        raise LandmarkRetrievalError(
            f"{path}: column {', '.join(missing)} is missing; expected {', '.join(required + optional)}, "
            f"found {', '.join(map(str, table.columns))}"
        )
    repeated = np.flatnonzero(table["id"].duplicated().to_numpy())
    if len(repeated):
        raise LandmarkRetrievalError(
            f"{path}, line {repeated[0] + 2}: query '{table['id'].iloc[repeated[0]]}' is given twice; keep "
            "one row"
        )
    return table[[*required, *(column for column in optional if column in table)]]

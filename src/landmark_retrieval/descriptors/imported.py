"""Descriptors that were made elsewhere, put in the order of an image table and checked.

What can be wrong with a file of one's own is said here in one line: rows that belong to no image, images
without a row, values that are not numbers, rows without length.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import field_validator, model_validator

from landmark_retrieval.configuration import Configuration
from landmark_retrieval.descriptors.files import DescriptorFile, read_descriptors
from landmark_retrieval.descriptors.matrix import (
    BlendConfig,
    Descriptors,
    blend,
    check_ids,
    normalize_rows,
)
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.images import content_digest
from landmark_retrieval.knn.matrix import UNIT_TOLERANCE, check_unit_rows

logger = logging.getLogger(__name__)

NAMED = 3
"""Images named in a message about several."""


class ImportConfig(Configuration):
    """Files of descriptors that stand in for those that the pipeline extracts.

    In place of the whole group one may give the file alone, `--params descriptors=FILE`.

    Attributes:
        files: each `[images, dimensions]`; several are blended (`blend.weights`). On a command line they are
            joined by the path separator (`:`).
        ids: a list of image ids in the order of the rows (`.txt` or `.csv`); None takes the ids in the file,
            or those in a `.txt` or `.csv` of the same name beside it, or, where there are none, `order`.
        order: whose rows a file without ids holds: `table` the images in the order of the table as given
            (of Revisited Oxford and Paris: queries, then index), `sorted` the same by ascending image id,
            `index_first` the index images, then the queries, then the train images.
        local_features: hloc's `.h5` of local features of the same images, by which expansion is verified;
            None expands by the nearest images, which nobody verified.
        whitening: `none`; `half` divides every dimension by the square root of its standard deviation among
            the index images.
    """

    files: tuple[str, ...] = ()
    ids: str | None = None
    order: Literal["table", "sorted", "index_first"] = "table"
    whitening: Literal["none", "half"] = "none"
    local_features: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _file_alone(cls, values: Any) -> Any:
        return {"files": values} if isinstance(values, str) else {} if values is None else values

    @field_validator("files", mode="before")
    @classmethod
    def _split(cls, files: Any) -> Any:
        return tuple(part for part in files.split(os.pathsep) if part) if isinstance(files, str) else files

    def read_files(self) -> dict[str, str]:
        """Return the files that a run with these options reads, by the names of the options."""
        named = {f"files.{number}": file for number, file in enumerate(self.files)}
        return named if self.ids is None else {**named, "ids": self.ids}

    def identity(self) -> dict[str, str | None]:
        """Return a digest of the content of each file, None for one that is not there."""
        files = (*self.files, *([self.local_features] if self.local_features else []))
        return {file: content_digest(Path(file).expanduser()) for file in files}


@dataclass(frozen=True, eq=False)
class ImportSteps:
    """What was done to the rows of the files, to do the same to a descriptor that is searched for.

    Attributes:
        widths: int64 `[files]` numbers of a row of each file.
        divisors: float64 `[sum of widths]` by which numbers are divided before rows are scaled to length 1.
    """

    widths: NDArray[np.int64]
    divisors: NDArray[np.float64]

    def apply(self, parts: Sequence[NDArray[Any]], weights: BlendConfig) -> NDArray[np.float32]:
        """Return descriptors as the index has them.

        Args:
            parts: `[n, d]`, one for each file, in their order.
            weights: of the blend of several files.

        Raises:
            LandmarkRetrievalError: there are more or fewer parts than files, or rows of another length.
        """
        found, wanted = [part.shape[1] for part in parts], self.widths.tolist()
        if found != wanted or len({len(part) for part in parts}) != 1:
            raise LandmarkRetrievalError(
                f"descriptors of {_counted(found)} numbers do not fit an index of {_counted(wanted)}: give "
                "as many files as the index was made of, in their order, with the same rows"
            )
        ids = np.arange(len(parts[0])).astype(str)
        divisors = np.split(self.divisors, np.cumsum(self.widths)[:-1])
        rows = [
            Descriptors(ids, normalize_rows((np.asarray(part, np.float32) / by).astype(np.float32)))
            for part, by in zip(parts, divisors, strict=True)
        ]
        return np.asarray(blend(rows, weights).matrix).astype(np.float32)


def read_own_descriptors(
    photos: pd.DataFrame, images: pd.DataFrame, config: ImportConfig, weights: BlendConfig | None = None
) -> tuple[Descriptors, ImportSteps]:
    """Read all files, put each in the order of the image table, and blend them.

    Args:
        photos: the raw table, in its own order.
        images: the prepared table of the same images.
        config: files and options.
        weights: weights of the blend of several files.

    Raises:
        LandmarkRetrievalError: no files are given, or as of `read_descriptors` and `import_descriptors`.
    """
    if not config.files:
        raise LandmarkRetrievalError("no descriptors are given: name a file with `--params descriptors=FILE`")
    parts, divisors = [], []
    for file in config.files:
        part, by = import_descriptors(read_descriptors(file, config.ids), photos, images, config)
        parts.append(part)
        divisors.append(by)
    widths = np.array([len(by) for by in divisors], np.int64)
    return blend(parts, weights), ImportSteps(widths, np.concatenate(divisors))


def import_descriptors(
    file: DescriptorFile, photos: pd.DataFrame, images: pd.DataFrame, config: ImportConfig
) -> tuple[Descriptors, NDArray[np.float64]]:
    """Put the rows of a file in the order of the image table, whitened and normalised.

    Args:
        file: as read.
        photos: the raw table, in its own order: `image_id`.
        images: the prepared table of the same images: `image_id`, `path`, `split`.
        config: order of rows without ids, and whitening.

    Returns:
        Float32 rows of unit length, a row for every image of `images`; zero rows stay zero ("none"). And by
        what each number was divided before, float64 `[d]`.

    Raises:
        LandmarkRetrievalError: images without a row, rows of unknown images in a file without ids, an id
            twice, values that are not finite.
    """
    rows = _rows_of(file, photos, images, config)
    ids = images["image_id"].to_numpy(dtype=str)
    matrix = np.array(file.matrix[rows], dtype=np.float32)
    _check_finite(file, matrix, ids)
    divisors = np.ones(matrix.shape[1])
    if config.whitening == "half":
        divisors = half_whitening(matrix[images["split"].to_numpy(dtype=str) == "index"])
        matrix = (matrix / divisors).astype(np.float32)
    return Descriptors(ids, _normalised(file, matrix, ids, config)), divisors


def half_whitening(reference: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the square root of the standard deviation of every dimension, float64 `[d]`, to divide by.

    A compromise between descriptors as they are, whose first dimensions outweigh all others after a PCA, and
    full whitening, which lifts the noise of the last ones to the same weight.

    Args:
        reference: float32 `[m, d]`, of which the deviations are taken; a dimension that does not vary there
            is left as it is.
    """
    deviation = reference.std(axis=0, dtype=np.float64)
    return np.sqrt(np.where(deviation > 0, deviation, 1.0))


def check_descriptors(descriptors: Descriptors, images: pd.DataFrame) -> None:
    """Refuse descriptors that do not fit an image table row for row, or are not of unit length.

    Args:
        descriptors: that were made outside of a run.
        images: the prepared table.

    Raises:
        ArrayError: ids in another order, fewer or more rows, or a row of another length.
    """
    check_ids(descriptors, images)
    check_unit_rows(descriptors.part(slice(0, len(images))), "descriptors")


def match_ids(given: NDArray[np.str_], images: pd.DataFrame) -> NDArray[np.int64]:
    """Return the position of every image's row among given ids, int64 `[images]`, -1 where there is none.

    Ids match exactly; names of files (`db/0123.jpg`, as hloc keeps them) match an image by its path, its
    name, or its name without ending, whichever rule finds most images.

    Args:
        given: str `[n]`, without repeats.
        images: `image_id` and `path`.
    """
    ids = images["image_id"].to_numpy(dtype=str)
    best = pd.Index(given).get_indexer(pd.Index(ids)).astype(np.int64)
    for of_image, of_given in _RULES:
        if (best >= 0).all():
            break
        theirs = pd.Index([of_given(name) for name in given])
        ours = pd.Index([of_image(row) for row in zip(ids, images["path"].astype(str), strict=True)])
        if theirs.is_unique and ours.is_unique:
            found = theirs.get_indexer(ours).astype(np.int64)
            best = found if (found >= 0).sum() > (best >= 0).sum() else best
    return best


def _same(name: str) -> str:
    return name


def _stem(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).stem


def _file_name(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).name


_RULES: Sequence[tuple[Callable[[tuple[str, str]], str], Callable[[str], str]]] = (
    (lambda row: row[0], lambda name: str(PurePosixPath(name).with_suffix("")) if name else name),
    (lambda row: row[1], _same),
    (lambda row: _file_name(row[1]), _file_name),
    (lambda row: row[0], _stem),
)


def _rows_of(
    file: DescriptorFile, photos: pd.DataFrame, images: pd.DataFrame, config: ImportConfig
) -> NDArray[np.int64]:
    """Return the row of the file that belongs to each image of the table."""
    ids = file.ids
    if ids is None:
        ids = _assumed_ids(file, photos, images, config)
        logger.info("%s: no ids, so rows are taken in the order '%s'", file.path, config.order)
    else:
        logger.info("%s: %d rows by %s", file.path, len(ids), file.ids_from)
    repeated = pd.Series(ids)[pd.Series(ids).duplicated()]
    if len(repeated):
        raise LandmarkRetrievalError(
            f"{file.path}: {file.ids_from}: '{repeated.iloc[0]}' is there twice (row {repeated.index[0]}); "
            "keep one row for each image"
        )
    rows = match_ids(ids, images)
    missing = np.flatnonzero(rows < 0)
    unknown = np.setdiff1d(np.arange(len(ids)), rows)
    if len(missing):
        hint = f"; its own ids look like {_listed(ids[unknown])}" if len(unknown) else ""
        raise LandmarkRetrievalError(
            f"{file.path}: {len(missing)} of {len(images)} images have no row in it, such as "
            f"{_listed(images['image_id'].to_numpy(dtype=str)[missing])}{hint}; ids must be those of the "
            "image table, or the names of its files"
        )
    if len(unknown):
        logger.warning(
            "%s: %d rows belong to no image of the table and are left out, such as %s",
            file.path,
            len(unknown),
            _listed(ids[unknown]),
        )
    return rows


def _assumed_ids(
    file: DescriptorFile, photos: pd.DataFrame, images: pd.DataFrame, config: ImportConfig
) -> NDArray[np.str_]:
    """Return whose rows a file without ids holds, by the order that the configuration names."""
    given = photos["image_id"].to_numpy(dtype=str)
    if len(given) != len(file.matrix):
        raise LandmarkRetrievalError(
            f"{file.path}: {len(file.matrix)} rows, but the image table has {len(given)} images, and "
            f"the file has no ids; {_why_other_count(len(file.matrix), images)}"
        )
    if config.order == "sorted":
        return np.sort(given)
    if config.order == "index_first":
        prepared, split = images["image_id"].to_numpy(dtype=str), images["split"].to_numpy(dtype=str)
        return np.concatenate([prepared[split == part] for part in ("index", "query", "train")])
    return given


def _why_other_count(rows: int, images: pd.DataFrame) -> str:
    counts = images["split"].value_counts()
    queries, index = (int(counts.get(name, 0)) for name in ("query", "index"))
    ids = "or give the ids with `descriptors.ids=FILE.txt`"
    if abs(rows - len(images)) == 1:
        more = "more" if rows > len(images) else "fewer"
        return (
            f"one row {more} is often a header line that was read as a row or a row as header, or an image "
            f"that {'is not in the table' if rows > len(images) else 'could not be described'}: find it "
            f"{ids}"
        )
    reasons = {
        index: "these are the index images alone: join the queries to them in one file",
        queries: "these are the queries alone: join them and the index in one file",
        index + queries: "these are queries and index without the train images: join all in one file",
    }
    return f"{reasons.get(rows, 'make the file anew from this table')}, {ids}"


def _check_finite(file: DescriptorFile, matrix: NDArray[np.float32], ids: NDArray[np.str_]) -> None:
    bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
    if len(bad):
        raise LandmarkRetrievalError(
            f"{file.path}: the rows of {len(bad)} images hold NaN or infinity, such as {_listed(ids[bad])}; "
            "describe these images again, or write zeros where an image has no descriptor"
        )


def _normalised(
    file: DescriptorFile, matrix: NDArray[np.float32], ids: NDArray[np.str_], config: ImportConfig
) -> NDArray[np.float32]:
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    nothing = np.flatnonzero(lengths[:, 0] == 0)
    if len(nothing) == len(matrix):
        raise LandmarkRetrievalError(f"{file.path}: all rows are zero; the file holds no descriptors")
    if len(nothing):
        logger.warning(
            "%s: the rows of %d images are zero, such as %s: these images are never found",
            file.path,
            len(nothing),
            _listed(ids[nothing]),
        )
    there = lengths[lengths > 0]
    if config.whitening == "none" and np.abs(there - 1).max() > UNIT_TOLERANCE:
        logger.warning(
            "%s: rows are not normalised (lengths %.4g to %.4g); they are scaled to 1, so that inner "
            "products are cosines",
            file.path,
            there.min(),
            there.max(),
        )
    scaled: NDArray[np.float32] = np.divide(matrix, lengths, out=np.zeros_like(matrix), where=lengths > 0)
    return scaled


def _counted(widths: Sequence[int]) -> str:
    return " and ".join(map(str, widths))


def _listed(names: NDArray[np.str_]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:NAMED])
    return shown + (" ..." if len(names) > NAMED else "")

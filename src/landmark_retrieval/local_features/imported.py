"""Local features that were made elsewhere: hloc's file of them, checked and taken into the store.

hloc (Sarlin et al., CVPR 2019) keeps a group for each image, named after its file, with `keypoints [m, 2]` in
pixels of the photo as it is, `descriptors [d, m]`, `scores [m]` and `image_size [2]` (width, height).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.images import content_digest
from landmark_retrieval.local_features.base import LocalFeatures
from landmark_retrieval.local_features.config import LocalFeaturesConfig
from landmark_retrieval.local_features.extraction import KIND, StoredFeatures, shard_of
from landmark_retrieval.runtime.sharding import ExecutorConfig
from landmark_retrieval.runtime.store import Request, Store

logger = logging.getLogger(__name__)

NAME = "hloc"
"""Name of the extractor; its ratio and floor are those of extractors that nobody measured here."""

PARTS = ("keypoints", "descriptors", "scores", "image_size")
"""What a group holds."""

VERSION = 1
"""Raised when the same file would give other features."""


def nobodys_features(images: int) -> StoredFeatures:
    """Return the features of a table whose images have none.

    Args:
        images: rows of the table.
    """
    nothing = np.zeros(0, np.int64)
    return StoredFeatures(np.full(images, ""), "", NAME, 0, nothing, nothing.astype(str), "{}")


def take_local_features(
    file: str | Path,
    images: pd.DataFrame,
    rows_of: NDArray[np.int64],
    names: Sequence[str],
    store: Store,
    config: LocalFeaturesConfig,
    executor: ExecutorConfig | None = None,
) -> StoredFeatures:
    """Check hloc's file of local features and take those of a table into the store.

    Args:
        file: the `.h5`.
        images: the image table: `image_id`, `split`.
        rows_of: int64 `[n]` which of the names is each image's, -1 for none.
        names: of the groups of the file (`group_names`).
        store: where features are kept.
        config: says how many features are kept of an image; its extractor is not used.
        executor: where they are read; default: in this process.

    Raises:
        LandmarkRetrievalError: a query or index image has no features, a group lacks something, shapes do not
            fit, or values are not finite; names the file, the image and the remedy.
    """
    most = config.max_keypoints
    path, ids = Path(file).expanduser(), images["image_id"].to_numpy(dtype=str)
    missing = np.flatnonzero((rows_of < 0) & (images["split"].to_numpy(dtype=str) != "train"))
    if len(missing):
        raise LandmarkRetrievalError(
            f"{path}: {len(missing)} queries and index images have no local features in it, such as "
            f"'{ids[missing[0]]}'; its own names look like '{names[0]}'; they must be image ids or names of "
            "files of the table"
        )
    unknown = len(set(range(len(names))) - set(rows_of.tolist()))
    if unknown:
        logger.warning("%s: %d images are not in the table and are left out", path, unknown)
    keys, dimensions = np.full(len(images), "", dtype="<U16"), 0
    with _opened(path) as content:
        for row in np.flatnonzero(rows_of >= 0).tolist():
            features, made_of = _read(content, path, names[rows_of[row]], most)
            width = features.descriptors.shape[1]
            if dimensions and width != dimensions:
                raise LandmarkRetrievalError(
                    f"{path}: descriptors of '{names[rows_of[row]]}' have {width} numbers, those before it "
                    f"{dimensions}; all local features come from one extractor"
                )
            keys[row], dimensions = made_of, width
    parameters = {"version": VERSION, "extractor": {"name": NAME}, "max_keypoints": most}
    namespace = store.namespace(KIND, {**parameters, "dimensions": dimensions})

    def prepare(positions: NDArray[np.int64]) -> partial[dict[str, NDArray[Any]]]:
        return partial(_shard, path, [names[row] for row in rows_of[positions]], most)

    executor = executor or ExecutorConfig()
    request = Request(f"local features ({NAME})", "photo", prepare, config.shard_size, executor=executor)
    namespace.fill(keys, request)
    nothing = np.zeros(0, np.int64)
    return StoredFeatures(
        keys=keys,
        folder=namespace.folder.below(Path.cwd()),
        extractor=NAME,
        dimensions=dimensions,
        skipped=nothing,
        reasons=nothing.astype(str),
        parameters=f'{{"file": "{content_digest(path)}"}}',
    )


def group_names(file: str | Path) -> list[str]:
    """Return the names of the images that a file of local features holds.

    Raises:
        LandmarkRetrievalError: the file is missing, damaged or not one of local features.
    """
    path, names = Path(file).expanduser(), list[str]()

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Group) and "keypoints" in item:
            names.append(name)

    if not path.is_file():
        raise LandmarkRetrievalError(f"{path}: there is no such file; check `descriptors.local_features`")
    with _opened(path) as content:
        content.visititems(visit)
    if not names:
        raise LandmarkRetrievalError(
            f"{path}: no group holds 'keypoints'; this is not hloc's file of local features (global ones go "
            "into `descriptors.files`)"
        )
    return names


def _shard(path: Path, names: Sequence[str], max_keypoints: int) -> dict[str, NDArray[Any]]:
    with _opened(path) as content:
        return shard_of([_read(content, path, name, max_keypoints)[0] for name in names])


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    try:
        with h5py.File(path, "r") as content:
            yield content
    except (OSError, KeyError, RuntimeError) as error:
        raise LandmarkRetrievalError(
            f"{path}: cannot be read ({' '.join(str(error).split())[:200]}); the file is damaged or no HDF5"
        ) from None


def _read(content: h5py.File, path: Path, name: str, most: int) -> tuple[LocalFeatures, str]:
    """Return the checked features of one image, and a digest of them as they are stored."""
    absent = [part for part in PARTS if part not in content[name]]
    if absent:
        raise LandmarkRetrievalError(
            f"{path}: '{name}' has no '{absent[0]}'; hloc's local features hold {', '.join(PARTS)}"
        )
    keypoints, descriptors, scores, size = (np.asarray(content[name][part]) for part in PARTS)
    count = len(keypoints) if keypoints.ndim == 2 else 0
    fits = keypoints.shape == (count, 2) and scores.shape == (count,) and size.shape == (2,)
    if not fits or descriptors.ndim != 2 or descriptors.shape[1] != count:
        shapes = ", ".join(
            f"{part} {list(array.shape)}"
            for part, array in zip(PARTS, (keypoints, descriptors, scores, size), strict=True)
        )
        raise LandmarkRetrievalError(
            f"{path}: '{name}' holds {shapes}; hloc has keypoints [m, 2], descriptors [dimensions, m], "
            "scores [m] and image_size [2]"
        )
    if not all(np.isfinite(array.astype(np.float64)).all() for array in (keypoints, descriptors, scores)):
        raise LandmarkRetrievalError(
            f"{path}: '{name}' holds NaN or infinity; extract its features again, or leave out such keypoints"
        )
    made_of = hashlib.sha256()
    for array in (keypoints, descriptors, scores, size):
        made_of.update(repr((array.shape, array.dtype.str)).encode() + np.ascontiguousarray(array).tobytes())
    rows = descriptors.T.astype(np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    usable = lengths[:, 0] > 0
    features = LocalFeatures(
        keypoints[usable].astype(np.float32),
        (rows[usable] / lengths[usable]).astype(np.float16),
        scores[usable].astype(np.float32),
        np.ones(int(usable.sum()), np.float32),
        (int(size[0]), int(size[1])),
    )
    return features.strongest(most), made_of.hexdigest()[:16]

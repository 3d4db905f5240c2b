"""The artifacts of a finished run, read from their files without Kedro.

The catalog (`conf/base/catalog_*.yml`) says where a run writes them; the same places stand here for what a
search reads, and a test holds the two together.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from landmark_retrieval.descriptors import Descriptors, RawDescriptors, Whitening
from landmark_retrieval.descriptors.aggregated import Codebook
from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.graph import CsrGraph, LabelBridge, TraversalConfig
from landmark_retrieval.graph.label_evidence import LabelEvidence
from landmark_retrieval.knn import KnnGraph
from landmark_retrieval.local_features import StoredFeatures
from landmark_retrieval.runtime.bundle import damaged, read_bundle
from landmark_retrieval.runtime.sharding import ShardStore

INTERMEDIATE, PRIMARY, FEATURE = "02_intermediate", "03_primary", "04_feature"
MODEL_INPUT, MODELS, OUTPUT = "05_model_input", "06_models", "07_model_output"

TABLE_TYPES: dict[Any, Any] = {
    "image_id": str,
    "landmark_id": "Int64",
    **dict.fromkeys(("landmark", "usage", "crop", "relevant", "hard", "junk"), str),
}

OPTIONS = "search_options"
"""Artifact that holds the parameters with which a run was made, by group."""

PARAMETERS = "params:"
"""How names of parameters begin."""

Reader = Callable[[Path], Any]


class RunFiles:
    """The files of one data set's run.

    Args:
        root: the folder with Kedro's layers (`data`).
        name: of the data set, as its folders in the layers are called.
        finished: whether the run must have ended; otherwise what is missing is named when it is read.

    Raises:
        LandmarkRetrievalError: there is no such run; names those that there are.
    """

    def __init__(self, root: str | os.PathLike[str], name: str, finished: bool = True) -> None:
        self.root, self.name = Path(root).expanduser().absolute(), name
        if not finished:
            return
        known = sorted(file.parent.name for file in (self.root / MODELS).glob(f"*/{OPTIONS}.json"))
        if name not in known:
            there = f"; there is {', '.join(known)}" if known else ""
            raise LandmarkRetrievalError(
                f"{self.root}: no finished run of '{name}'{there}; make one with `kedro run` (a run of an "
                "earlier version needs one more, which computes nothing anew)"
            )

    def load(self, name: str) -> Any:
        """Return an artifact, or parameters (`params:...`), by its name in the catalog.

        Raises:
            LandmarkRetrievalError: it is missing or damaged, or no search reads it.
        """
        if name.startswith(PARAMETERS):
            return self._options()[name.removeprefix(PARAMETERS)]
        path, read = self.place(name)
        return read(path)

    def place(self, name: str) -> tuple[Path, Reader]:
        """Return where an artifact lies, and what reads it."""
        layer, file, read = _place(name)
        return self.root / layer / self.name / file, read

    def digest(self) -> str:
        """Return a digest of the run, by which changes that were made over another one are told."""
        found = hashlib.sha256()
        for name in ("image_table", "inlier_fits", "traversal_options", OPTIONS):
            path, _ = self.place(name)
            found.update(path.read_bytes() if path.exists() else b"")
        return found.hexdigest()[:16]

    def resolve(self, path: str) -> str:
        """Return a path of an artifact, which is relative to the project, for any working folder."""
        return path if "://" in path else str(self.root.parent / path)

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = self.load(OPTIONS)
        for name, group in options.items():
            if isinstance(group, dict) and group.get("trained_file"):
                options[name] = {**group, "trained_file": self.resolve(group["trained_file"])}
        return options

    def read(self, name: str) -> Any:
        """Return an artifact or parameters with all paths in it resolved."""
        found = self.load(name)
        if isinstance(found, StoredFeatures):
            return dataclasses.replace(found, folder=self.resolve(found.folder))
        if name == "image_table":
            return found.assign(path=[self.resolve(path) for path in found["path"].astype(str)])
        return found


def _place(name: str) -> tuple[str, str, Reader]:
    """Return layer, path in the data set's folder and reader of an artifact."""
    if name in _WHOLE:
        return _WHOLE[name]
    owner, _, kind = name.rpartition(".")
    if kind not in _OF or not owner:
        raise LandmarkRetrievalError(f"no search reads '{name}'")
    layer, read = _OF[kind]
    expanded = kind == "descriptors" and owner.startswith("blend_")
    file = {"raw_descriptors": "descriptors_before_whitening"}.get(kind, kind)
    return (MODEL_INPUT if expanded else layer), f"{owner}/{file}", read


def _bundle(kind: type[Any]) -> Reader:
    return lambda path: read_bundle(path, kind)


def _whole(read: Reader) -> Reader:
    """Return a reader whose errors are one line for the user."""

    def safely(path: Path) -> Any:
        try:
            return read(path)
        except FileNotFoundError:
            raise LandmarkRetrievalError(f"{path}: not stored yet; run its pipeline first") from None
        except (ValueError, KeyError, TypeError) as error:
            raise damaged(path, error) from error

    return safely


_json = _whole(lambda path: json.loads(path.read_text(encoding="utf-8")))
_table = _whole(lambda path: pd.read_csv(path, dtype=TABLE_TYPES, keep_default_na=False, na_values=[""]))
_parquet = _whole(pd.read_parquet)
_traversal = _whole(lambda path: TraversalConfig.model_validate(json.loads(path.read_text(encoding="utf-8"))))

_WHOLE: dict[str, tuple[str, str, Reader]] = {
    "image_table": (INTERMEDIATE, "image_table.csv", _table),
    OPTIONS: (MODELS, f"{OPTIONS}.json", _json),
    "local_features": (PRIMARY, "local_features_of_rows", _bundle(StoredFeatures)),
    "local_features_pca": (MODELS, "local_features_pca", _bundle(Whitening)),
    "verified_pairs": (MODEL_INPUT, "verified_pairs.parquet", _parquet),
    "pair_probabilities": (MODEL_INPUT, "pair_probabilities.parquet", _parquet),
    "inlier_fits": (MODEL_INPUT, "inlier_fits.json", _json),
    "traversal_options": (MODEL_INPUT, "traversal_options.json", _traversal),
}
_OF: dict[str, tuple[str, Reader]] = {
    "raw_descriptors": (PRIMARY, _bundle(RawDescriptors)),
    "region_whitening": (MODELS, _bundle(Whitening)),
    "whitening": (MODELS, _bundle(Whitening)),
    "codebook": (MODELS, _bundle(Codebook)),
    "descriptors": (FEATURE, _bundle(Descriptors)),
    "neighbor_shards": (MODEL_INPUT, lambda path: ShardStore(str(path))),
    "knn_graph": (MODEL_INPUT, _bundle(KnnGraph)),
    "index_graph": (MODEL_INPUT, _bundle(CsrGraph)),
    "label_evidence": (MODEL_INPUT, _bundle(LabelEvidence)),
    "label_bridge": (MODEL_INPUT, _bundle(LabelBridge)),
}

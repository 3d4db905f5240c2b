"""Floors for inliers: what pairs of unrelated photos reach by chance, for every extractor.

    python -m benchmarks.inlier_floors SET OTHER [--extractors aliked sift] [--images 200] [--store FOLDER]

SET and OTHER are photo folders as `--env folder` takes them and must show different places: every pair of a
photo of one and a photo of the other is unrelated. SET should also hold several photos of each place, for the
share of true pairs that the floor keeps. Everything is measured with the defaults of a run. With `--store`
features and pairs are kept, and a second call goes on from them.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from landmark_retrieval.collection import DataSetConfig, prepare_image_table, read_image_folder
from landmark_retrieval.images import image_sources, photo_keys
from landmark_retrieval.local_features import (
    LocalFeaturesConfig,
    LocalFeatureStore,
    extract_local_features,
    fit_local_pca,
)
from landmark_retrieval.runtime.sharding import ExecutorConfig
from landmark_retrieval.runtime.store import Store
from landmark_retrieval.verification import VerificationConfig, verify_pairs
from landmark_retrieval.verification.floors import floor_from_unrelated

EXTRACTORS = ("aliked", "disk", "xfeat", "sift", "delf")
ESTIMATED_FROM = 5
"""Correspondences from which a homography is estimated here, well below every floor."""


def read(folder: str, images: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the whole table of a folder, and an even selection of its images (train split left out)."""
    table = prepare_image_table(read_image_folder(folder), DataSetConfig(name=Path(folder).name))
    measured = table[table["split"] != "train"]
    rows = np.unique(np.linspace(0, len(measured) - 1, min(images, len(measured))).round().astype(int))
    return table, measured.iloc[rows]


def unrelated_pairs(first: int, second: int, count: int) -> NDArray[np.int64]:
    """Return pairs (row of the first set, row of the second, counted on), drawn without repetition."""
    chosen = np.random.default_rng(0).permutation(first * second)[:count]
    return np.stack([chosen // second, first + chosen % second], axis=1)


def same_place_pairs(table: pd.DataFrame) -> NDArray[np.int64]:
    """Return all pairs of rows with the same landmark."""
    labels = table["landmark_id"].to_numpy(float, na_value=np.nan)
    a, b = np.nonzero(np.triu(labels[:, None] == labels[None, :], 1))
    return np.stack([a, b], axis=1)


def measure(name: str, arguments: argparse.Namespace, store: Path) -> dict[str, Any]:
    config = LocalFeaturesConfig(extractor={"name": name}, max_keypoints=arguments.max_keypoints)
    (_, first), (whole, second) = (read(folder, arguments.images) for folder in arguments.sets)
    table = pd.concat([first, second], ignore_index=True)
    executor = ExecutorConfig(backend="loky", workers=arguments.workers)
    kept, keys = Store(str(store)), photo_keys(image_sources(table))
    pca = fit_local_pca(whole, config)
    features = extract_local_features(table, keys, kept, config, ExecutorConfig(), pca)
    reader = LocalFeatureStore(features)
    verification = VerificationConfig(min_inliers=ESTIMATED_FROM)
    counts = {}
    for kind, pairs in (
        ("unrelated", unrelated_pairs(len(first), len(second), arguments.pairs)),
        ("same", same_place_pairs(first)),
    ):
        counts[kind] = verify_pairs(pairs, reader, kept, verification, executor)["inliers"].to_numpy()
    floor = floor_from_unrelated(counts["unrelated"])
    return {
        "extractor": name,
        "ms an image": round(1e3 * kept.work[0].seconds / len(table)),
        "keypoints": round(float(np.mean([len(reader.get(row)) for row in range(len(table))]))),
        "unrelated pairs": len(counts["unrelated"]),
        **{
            f"{percentile} %": int(np.percentile(counts["unrelated"], percentile, method="inverted_cdf"))
            for percentile in (99, 99.9, 99.99)
        },
        "most": int(counts["unrelated"].max()),
        "floor": floor,
        "same place": len(counts["same"]),
        "median": float(np.median(counts["same"])),
        "kept": round(float((counts["same"] >= floor).mean()), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("sets", nargs=2, metavar=("SET", "OTHER"), help="photo folders")
    parser.add_argument("--extractors", nargs="+", choices=EXTRACTORS, default=EXTRACTORS)
    parser.add_argument("--images", type=int, default=200, help="of each folder")
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--max-keypoints", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--store", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.extractors:
            found = measure(name, arguments, arguments.store or Path(folder))
            print("  ".join(f"{key} {value}" for key, value in found.items()), flush=True)


if __name__ == "__main__":
    main()

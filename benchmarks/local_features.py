"""Local features side by side on the verification step of a finished run.

    python -m benchmarks.local_features DATA_SET [--extractors sift xfeat] [--attention FILE]

DATA_SET is the name of a finished run below `data/`: its blended descriptors, k-NN graph and images are used;
features are extracted anew for each extractor, 1000 keypoints, long side 640, and verified at the extractor's
own floor. Printed: mAP of re-ranking alone and of `blend_qe_sv`, median inliers of candidate pairs of one
landmark and the 99th percentile of other pairs, the share of the former above the floor, keypoints a second
and bytes an image.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter

from benchmarks.ransac import Run
from landmark_retrieval.collection import relevant_index_rows
from landmark_retrieval.evaluation import evaluate_variant
from landmark_retrieval.experiments.qe_variants import Verified, rank_expanded
from landmark_retrieval.images import image_sources, photo_keys
from landmark_retrieval.knn import KnnConfig
from landmark_retrieval.local_features import LocalFeaturesConfig, LocalFeatureStore, fit_local_pca
from landmark_retrieval.local_features.config import ExtractorConfig
from landmark_retrieval.local_features.extraction import extract_local_features
from landmark_retrieval.runtime.sharding import ExecutorConfig
from landmark_retrieval.runtime.store import Store
from landmark_retrieval.verification import (
    ExpansionConfig,
    VerificationConfig,
    verify_pairs,
)

EXTRACTORS = ("aliked", "disk", "xfeat", "sift", "delf")


def measure(run: Run, extractor: str, attention: str | None) -> str:
    """Return the line of one extractor."""
    options = {"name": extractor} | ({"attention": attention} if attention and extractor == "delf" else {})
    config = LocalFeaturesConfig(
        extractor=TypeAdapter(ExtractorConfig).validate_python(options), max_side=640, max_keypoints=1000
    )
    with tempfile.TemporaryDirectory() as folder:
        pca = fit_local_pca(run.images, config)
        store, keys = Store(folder), photo_keys(image_sources(run.images))
        start = time.perf_counter()
        features = LocalFeatureStore(extract_local_features(run.images, keys, store, config, pca=pca))
        seconds = time.perf_counter() - start
        keypoints = sum(len(features.get(row)) for row in range(len(run.images)))
        size = sum(file.stat().st_size for file in (Path(folder) / "local_features").rglob("*.npz"))
        executor = ExecutorConfig(backend="loky")
        pairs = verify_pairs(run.rows, features, store, VerificationConfig(), executor)
        floor = VerificationConfig().floor(features.extractor)
    inliers, same = pairs["inliers"].to_numpy(), run.same_place()
    found = Verified(**{**vars(run.verified), "pairs": pairs, "min_inliers": floor})
    relevant = relevant_index_rows(run.images)
    precisions = [
        evaluate_variant(rank_expanded(found, expansion, KnnConfig())[0], relevant, None)["mAP_at_100"]
        for expansion in (ExpansionConfig(images=0), ExpansionConfig())
    ]
    count = len(run.images)
    return (
        f"{extractor:7} re-ranked {precisions[0]:.4f}  qe_sv {precisions[1]:.4f}  "
        f"inliers {np.median(inliers[same]):.0f} / {np.percentile(inliers[~same], 99):.0f}  "
        f"above floor {floor}: {np.mean(inliers[same] >= floor):.2f} "
        f"/ {np.mean(inliers[~same] >= floor):.3f}  "
        f"{1000 * seconds / count:.0f} ms an image  {keypoints / seconds:.0f} keypoints/s  "
        f"{size / count / 1024:.0f} KiB an image"
    )


def main() -> None:
    """Measure every extractor."""
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_written)
    parser.add_argument("data_set")
    parser.add_argument("--extractors", nargs="+", choices=EXTRACTORS, default=EXTRACTORS)
    parser.add_argument("--attention", help="trained attention head for delf")
    arguments = parser.parse_args()
    run = Run.load(arguments.data_set)
    for extractor in arguments.extractors:
        print(measure(run, extractor, arguments.attention), flush=True)


if __name__ == "__main__":
    main()

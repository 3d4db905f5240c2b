"""RANSAC methods on the candidate pairs of finished runs: accuracy, time, repeatability.

    python -m benchmarks.ransac DATA_SET OTHER [--seeds 3] [--unrelated 3000]

DATA_SET and OTHER are names of finished runs below `data/` (`data/05_model_input/NAME`) that show different
places: pairs across them are unrelated. Correspondences are found once, so times are those of RANSAC alone,
on one core. For each run: milliseconds a pair, same-place pairs at or above the floor of the run, other pairs
there, mAP of `blend_qe_sv` from these inliers, and how far both move from seed to seed.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from landmark_retrieval.collection import SplitRows, relevant_index_rows
from landmark_retrieval.evaluation import evaluate_variant
from landmark_retrieval.experiments.qe_variants import Verified, rank_expanded
from landmark_retrieval.io import ArrayBundleDataset
from landmark_retrieval.knn import KnnConfig
from landmark_retrieval.local_features import LocalFeatureStore
from landmark_retrieval.verification import (
    ExpansionConfig,
    RansacConfig,
    VerificationConfig,
    estimate_homography,
)
from landmark_retrieval.verification.floors import floor_from_unrelated
from landmark_retrieval.verification.matching import match
from landmark_retrieval.verification.one_pair import long_side, pair_seed
from landmark_retrieval.verification.ransac import REFERENCE_SIDE

METHODS = ("pydegensac", "opencv_usac", "poselib")
Matches = list[tuple[NDArray[np.float64], NDArray[np.float64]]]


@dataclass(frozen=True)
class Run:
    """What a finished run has stored of one data set."""

    name: str
    images: pd.DataFrame
    features: LocalFeatureStore
    verified: Verified

    @classmethod
    def load(cls, name: str, root: Path = Path("data")) -> Run:
        """Read the artifacts of a data set."""

        def bundle(path: str, kind: str) -> Any:
            entry = ArrayBundleDataset(filepath=str(root / path), bundle=f"landmark_retrieval.{kind}")
            return entry.load()

        images = pd.read_csv(
            root / "02_intermediate" / name / "image_table.csv", dtype={"landmark_id": "Int64"}
        )
        rows = SplitRows.from_table(images)
        descriptors = bundle(f"04_feature/{name}/blend/descriptors", "descriptors.Descriptors")
        inputs = root / "05_model_input" / name
        stored = bundle(f"03_primary/{name}/local_features_of_rows", "local_features.StoredFeatures")
        return cls(
            name,
            images,
            LocalFeatureStore(stored),
            Verified(
                descriptors.part(rows.query),
                descriptors.part(rows.index),
                bundle(f"05_model_input/{name}/blend/knn_graph", "knn.KnnGraph"),
                pd.read_parquet(inputs / "verified_pairs.parquet"),
                VerificationConfig().candidates,
                VerificationConfig().floor(stored.extractor),
            ),
        )

    @property
    def rows(self) -> NDArray[np.int64]:
        """Candidate pairs."""
        return self.verified.pairs[["row_a", "row_b"]].to_numpy(np.int64)

    def same_place(self) -> NDArray[np.bool_]:
        """Which candidate pairs show one landmark."""
        labels = self.images["landmark_id"].to_numpy(float, na_value=np.nan)
        return labels[self.rows[:, 0]] == labels[self.rows[:, 1]]

    def precision(self, inliers: NDArray[np.int64]) -> float:
        """Return the mAP of `blend_qe_sv` with these inliers of the candidate pairs."""
        pairs = self.verified.pairs.assign(inliers=inliers.astype(np.int32))
        verified = Verified(**{**vars(self.verified), "pairs": pairs})
        ranking, _ = rank_expanded(verified, ExpansionConfig(), KnnConfig())
        return evaluate_variant(ranking, relevant_index_rows(self.images), None)["mAP_at_100"]


def correspondences(first: Run, second: Run, rows: NDArray[np.int64]) -> Matches:
    config = VerificationConfig().resolve(first.features.extractor)
    found = []
    for row_a, row_b in rows.tolist():
        a, b = first.features.get(row_a), second.features.get(row_b)
        pairs = match(a, b, config.matching)
        found.append(
            (
                a.keypoints[pairs[:, 0]].astype(float) * REFERENCE_SIDE / long_side(a),
                b.keypoints[pairs[:, 1]].astype(float) * REFERENCE_SIDE / long_side(b),
            )
        )
    return found


def count_inliers(
    method: str, matches: Matches, rows: NDArray[np.int64], seed: int, floor: int
) -> tuple[NDArray[np.int64], float]:
    """Return the inliers of every pair and the milliseconds a pair."""
    config = RansacConfig(method=method)
    seeds = [pair_seed(seed, f"{a} {b}") for a, b in rows.tolist()]
    start = time.perf_counter()
    counts = [
        int(estimate_homography(a, b, config, one, floor)[1].sum())
        for (a, b), one in zip(matches, seeds, strict=True)
    ]
    return np.array(counts), 1e3 * (time.perf_counter() - start) / len(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("sets", nargs=2, metavar=("DATA_SET", "OTHER"))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--unrelated", type=int, default=3000)
    arguments = parser.parse_args()
    runs = [Run.load(name) for name in arguments.sets]
    random = np.random.default_rng(0)
    across = np.stack([random.integers(0, len(run.images), arguments.unrelated) for run in runs], axis=1)
    across = across[np.lexsort((across[:, 1], across[:, 0]))]
    unrelated = correspondences(*runs, across)
    matched = [correspondences(run, run, run.rows) for run in runs]
    for method in arguments.methods:
        chance, milliseconds = count_inliers(method, unrelated, across, 0, 5)
        tail = np.percentile(chance, 99.9, method="inverted_cdf")
        print(f"{method}: unrelated pairs 99.9 % {tail:.0f}, most {chance.max()}, ", end="")
        print(f"floor by the rule {floor_from_unrelated(chance)}, {milliseconds:.2f} ms a pair")
        for run, matches in zip(runs, matched, strict=True):
            floor = run.verified.min_inliers
            results = [
                count_inliers(method, matches, run.rows, seed, floor) for seed in range(arguments.seeds)
            ]
            counts = np.array([result[0] for result in results])
            again = count_inliers(method, matches[:500], run.rows[:500], 0, floor)[0]
            above, same = counts >= floor, run.same_place()
            precisions = [run.precision(one) for one in counts]
            unsure = above.any(axis=0) & ~above.all(axis=0)
            moved = counts.std(axis=0)[above.any(axis=0)].mean()
            parts = [
                f"{np.median([result[1] for result in results]):.2f} ms a pair",
                f"above the floor {floor}: {above[0][same].sum()} of {same.sum()} of the same place",
                f"and {above[0][~same].sum()} others",
                f"mAP {precisions[0]:.4f} ({min(precisions):.4f} to {max(precisions):.4f} over seeds)",
                f"{unsure.sum()} verdicts depend on the seed",
                f"inliers move by {moved:.2f} (deviation)",
                f"two runs are {'equal' if (again == counts[0][:500]).all() else 'DIFFERENT'}",
            ]
            print(f"  {run.name}: " + ", ".join(parts), flush=True)


if __name__ == "__main__":
    main()

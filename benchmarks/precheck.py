"""The pre-check for hopeless pairs, on and off: mAP, inliers and time on candidate pairs of finished runs.

    python -m benchmarks.precheck DATA_SET [DATA_SET ...]

DATA_SET is the name of a finished run below `data/`. All candidate pairs are verified anew in this process
with the run's own features and floor, once without the pre-check and once for each number of features that
it looks at. Printed: pairs given up, pairs at or above the floor, mAP of `blend_qe_sv`, milliseconds a pair.
"""

from __future__ import annotations

import argparse
import tempfile
import time

from benchmarks.ransac import Run
from landmark_retrieval.collection import relevant_index_rows
from landmark_retrieval.evaluation import evaluate_variant
from landmark_retrieval.experiments.qe_variants import Verified, rank_expanded
from landmark_retrieval.knn import KnnConfig
from landmark_retrieval.runtime.sharding import ShardStore
from landmark_retrieval.verification import (
    ExpansionConfig,
    VerificationConfig,
    collect_pairs,
    plan_verification,
)
from landmark_retrieval.verification.matching import MatchingConfig, is_hopeless

FEATURES = (0, MatchingConfig().precheck_features, 2 * MatchingConfig().precheck_features)
"""Features that the pre-check looks at; 0 turns it off."""


def measure(run: Run, features: int) -> str:
    """Return the line of one setting."""
    config = VerificationConfig(matching=MatchingConfig(precheck_features=features, device="cpu"))
    matching = config.resolve(run.features.extractor).matching
    get = run.features.get
    given_up = sum(is_hopeless(get(int(a)), get(int(b)), matching) for a, b in run.rows) if features else 0
    with tempfile.TemporaryDirectory() as folder:
        store = ShardStore(folder)
        start = time.perf_counter()
        store.run(plan_verification(run.rows, run.features, config))
        seconds = time.perf_counter() - start
        pairs = collect_pairs(store)
    found = Verified(**{**vars(run.verified), "pairs": pairs})
    ranking = rank_expanded(found, ExpansionConfig(), KnnConfig())[0]
    precision = evaluate_variant(ranking, relevant_index_rows(run.images), None)["mAP_at_100"]
    accepted = int((pairs["inliers"] >= run.verified.min_inliers).sum())
    return (
        f"{run.name:20} {features or 'off':>4}  given up {given_up} of {len(pairs)}  "
        f"above the floor {accepted}  mAP {precision:.4f}  {1000 * seconds / len(pairs):.2f} ms a pair"
    )


def main() -> None:
    """Measure every run and setting."""
    as_written = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=as_written)
    parser.add_argument("data_sets", nargs="+")
    for name in parser.parse_args().data_sets:
        run = Run.load(name)
        for features in FEATURES:
            print(measure(run, features), flush=True)


if __name__ == "__main__":
    main()

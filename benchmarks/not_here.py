"""How often a search says `found`, for photos whose landmark is in the index and where it is taken out.

    python -m benchmarks.not_here data demo sf101-0769e0 vietnam5-347bda

Reads finished runs and computes nothing of photos. Each photo keeps the pairs that the run tried for it; with
its landmark held out whole, those with photos of its own landmark are left out. (In a search the places that
this leaves in the lists go to photos further down.) Photos of the index are asked about themselves, which is
what a threshold may be chosen by; the queries of the run only show what comes of it. Within the reach of
verification is who has a photo of its own landmark with the inliers that prove a pair more likely than not.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import numpy as np
import pandas as pd

from landmark_retrieval.collection import SplitRows, landmark_of
from landmark_retrieval.retrieval.artifacts import RunFiles
from landmark_retrieval.retrieval.presence import THRESHOLD, presence
from landmark_retrieval.verification.calibration import SIDES, InlierFit, from_plain

THRESHOLDS = (0.5, 0.9, THRESHOLD, 0.99)


def main() -> None:
    """Print a table of the runs that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("root", help="the folder `data` of a project")
    parser.add_argument("names", nargs="+", help="data sets with a finished run")
    given = parser.parse_args()
    for name in given.names:
        files = RunFiles(given.root, name, finished=False)
        table = held_out(
            files.load("image_table"), files.load("verified_pairs"), from_plain(files.load("inlier_fits"))
        )
        print(name)
        print(table.to_string(index=False))


def held_out(images: pd.DataFrame, pairs: pd.DataFrame, fits: Mapping[str, InlierFit]) -> pd.DataFrame:
    """Return the shares of photos that are found.

    Args:
        images: the image table.
        pairs: `row_a`, `row_b`, `inliers` of all pairs that were tried.
        fits: what inliers prove on either side.

    Returns:
        One row for each kind of photos and threshold: `photos`, `not_here` share found with their landmark
        held out, `here` share of those within reach that are found, `reach` share within reach.
    """
    rows, landmarks = SplitRows.from_table(images), landmark_of(images)
    both = np.concatenate([pairs[["row_a", "row_b"]].to_numpy(), pairs[["row_b", "row_a"]].to_numpy()])
    inliers = np.tile(pairs["inliers"].to_numpy(), 2)
    of_index = (both >= rows.index.start).all(axis=1)
    same = (landmarks[both[:, 0]] == landmarks[both[:, 1]]) & (landmarks[both[:, 0]] >= 0)
    result = []
    for asked, split, mine, side in (
        ("index photos", rows.index, of_index, SIDES[1]),
        ("queries", rows.query, both[:, 0] < rows.query.stop, SIDES[0]),
    ):
        tried = pd.DataFrame({"photo": both[mine, 0], "inliers": inliers[mine], "same": same[mine]})
        tried = tried[landmarks[tried["photo"]] >= 0]
        if not len(tried) or split.start == split.stop:
            continue
        best = tried.pivot_table(
            index="photo", columns="same", values="inliers", aggfunc=["max", "size"], fill_value=0
        )
        fit = fits[side]
        floor = fit.floor(0.5) or fit.top
        counts = best["size"].sum(axis=1)
        alone = best["max"].get(False, counts * 0), best["size"].get(False, counts * 0)
        right = best["max"].get(True, counts * 0)
        top = np.maximum(alone[0], right)
        within = right >= floor
        absent = np.array([presence(fit, *pair) for pair in zip(*alone, strict=True)])
        present = np.array([presence(fit, *pair) for pair in zip(top, counts, strict=True)])
        for threshold in THRESHOLDS:
            result.append(
                {
                    "asked": asked,
                    "photos": len(counts),
                    "threshold": threshold,
                    "not_here": round(float((absent >= threshold).mean()), 3),
                    "reach": round(float(within.mean()), 3),
                    "here": round(float((present[within] >= threshold).mean()), 3) if within.any() else None,
                }
            )
    return pd.DataFrame(result)


if __name__ == "__main__":
    main()

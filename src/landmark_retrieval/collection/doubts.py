"""Labels that geometry disagrees with."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

OTHER_LABEL = "verified, but labelled differently"
NO_PARTNER = "verified with other labels only"

COLUMNS = ("kind", "row_a", "row_b", "probability", "inliers")


def doubtful_labels(
    links: pd.DataFrame, landmarks: NDArray[np.int64], min_probability: float
) -> pd.DataFrame:
    """Return pairs that verify strongly but carry different labels, and photos that no photo of theirs backs.

    Args:
        links: tried pairs: `row_a`, `row_b`, `probability`, `inliers`.
        landmarks: int64 `[n]`, negative for none.
        min_probability: P(same place) from which a pair counts.

    Returns:
        Columns `COLUMNS`, strongest first: every pair of photos with different labels, of kind `NO_PARTNER`
        (the photo without a partner of its label is `row_a`) or else `OTHER_LABEL`.
    """
    strong = links[links["probability"] >= min_probability]
    one, two = landmarks[strong["row_a"]], landmarks[strong["row_b"]]
    agreed = strong[(one == two) & (one >= 0)]
    backed = set(agreed["row_a"].tolist()) | set(agreed["row_b"].tolist())
    apart = strong[(one != two) & (one >= 0) & (two >= 0)]
    size = np.bincount(landmarks[landmarks >= 0], minlength=1)
    rows = []
    for pair in apart.to_dict("records"):
        a, b = int(pair["row_a"]), int(pair["row_b"])
        alone = [row for row in (a, b) if row not in backed and size[landmarks[row]] > 1]
        kind = NO_PARTNER if alone else OTHER_LABEL
        first = alone[0] if alone else a
        rows.append((kind, first, b if first == a else a, float(pair["probability"]), int(pair["inliers"])))
    rows.sort(key=lambda row: (-row[3], -row[4], row[1:3]))
    return pd.DataFrame(rows, columns=list(COLUMNS))

from __future__ import annotations

import numpy as np
import pandas as pd

from landmark_retrieval.collection.doubts import NO_PARTNER, OTHER_LABEL, doubtful_labels
from landmark_retrieval.collection.growth import growth_in_words


def test_strong_pairs_of_different_labels_are_doubtful() -> None:
    #          0  1  2  3  4   5
    landmarks = np.array([7, 7, 8, 8, 7, -1])
    links = pd.DataFrame(
        [
            (0, 1, 1.0, 300),  # agrees
            (0, 2, 0.99, 60),  # 2 has no partner of its own label
            (0, 3, 0.96, 20),  # neither has 3
            (1, 4, 0.2, 5),  # weak
            (4, 5, 1.0, 90),  # one has no label
        ],
        columns=["row_a", "row_b", "probability", "inliers"],
    )
    found = doubtful_labels(links, landmarks, 0.95)
    assert found[["kind", "row_a", "row_b"]].to_numpy().tolist() == [[NO_PARTNER, 2, 0], [NO_PARTNER, 3, 0]]
    both = pd.concat([links, pd.DataFrame([(2, 3, 1.0, 80)], columns=links.columns)])
    found = doubtful_labels(both, landmarks, 0.95)
    assert found[["kind", "row_a", "row_b"]].to_numpy().tolist() == [[OTHER_LABEL, 0, 2], [OTHER_LABEL, 0, 3]]


def test_a_label_with_one_photo_has_nobody_to_back_it() -> None:
    links = pd.DataFrame({"row_a": [0], "row_b": [1], "probability": [1.0], "inliers": [50]})
    assert doubtful_labels(links, np.array([1, 2]), 0.95)["kind"].tolist() == [OTHER_LABEL]


def test_growth_is_counted_in_photos_not_in_files() -> None:
    assert growth_in_words(["a", "b", "c"], None) == "photos: 3 new, 0 known, 0 gone"
    assert growth_in_words(["a", "d"], ["a", "b", "c"]) == "photos: 1 new, 1 known, 2 gone"

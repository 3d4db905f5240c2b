from __future__ import annotations

import numpy as np
import pytest

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.evaluation.ranking import RankingConfig, cut


def test_cut_and_pad() -> None:
    rows = np.array([[3, 1, 2]], np.int32)
    assert cut(rows, 2).rows.tolist() == [[3, 1]]
    padded = cut(rows, 5).rows
    assert padded.tolist() == [[3, 1, 2, -1, -1]] and padded.dtype == np.int32


def test_length_is_positive() -> None:
    with pytest.raises(LandmarkRetrievalError):
        RankingConfig(length=0)

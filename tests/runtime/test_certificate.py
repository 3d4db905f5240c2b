"""Certificates: equal content has equal digests, and the first difference is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from landmark_retrieval.evaluation import Ranking
from landmark_retrieval.runtime.certificate import certificate, differences, digest_of


def test_content_decides_not_where_it_lies(tmp_path: Path) -> None:
    """A memory map equals the array; ids of any width equal each other."""
    rows = np.arange(200_000, dtype=np.float32).reshape(-1, 2)
    np.save(tmp_path / "rows.npy", rows)
    assert digest_of(np.load(tmp_path / "rows.npy", mmap_mode="r")) == digest_of(rows)
    assert digest_of(np.array(["a", "b"])) == digest_of(np.array(["a", "b"], dtype="U20"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.arange(4), np.arange(4).reshape(2, 2)),
        (np.arange(4, dtype=np.int32), np.arange(4, dtype=np.float32)),
        (np.array(["ab", "c"]), np.array(["a", "bc"])),
        (Ranking(np.zeros((1, 2), np.int32)), Ranking(np.ones((1, 2), np.int32))),
        (pd.DataFrame({"x": [0.1]}), pd.DataFrame({"x": [0.1 + 1e-16 * 2]})),
        ({"a": 1}, {"a": 2}),
    ],
)
def test_other_content_has_another_digest(one: object, other: object) -> None:
    """Shape, type, borders between strings, the last digit of a number."""
    assert digest_of(one) != digest_of(other)


def made(seed: int = 0, graph: int = 1, ranking: int = 2, score: float = 0.5) -> dict[str, object]:
    stages = [("knn_graph", np.array([graph])), ("blend.ranking", np.array([ranking]))]
    return certificate(
        {"commit": "abc", "parameters": {"data_set": {"seed": seed}}}, stages, {"blend": {"mAP": score}}, {}
    )


def test_the_first_stage_that_differs_is_named() -> None:
    """With the inputs that differ before, and the metrics after it."""
    assert differences(made(), made()) == []
    assert differences(made(), made(seed=1, graph=7, ranking=8, score=0.4)) == [
        "input parameters.data_set.seed: 0 → 1",
        "the runs part at 'knn_graph', which differs; 1 later artifacts differ",
        "metric blend.mAP: 0.5 → 0.4",
    ]


def test_artifacts_of_one_run_only_are_named() -> None:
    """On either side."""
    short = made()
    short["stages"] = short["stages"][:1]  # type: ignore[index]
    assert "part at 'blend.ranking', which is not made" in differences(made(), short)[0]
    assert differences(short, made()) == ["only the second run makes blend.ranking"]

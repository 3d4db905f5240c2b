from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.evaluation import VARIANTS
from landmark_retrieval.evaluation.published import PublishedConfig

CONF = Path(__file__).resolve().parents[2] / "conf"


def test_table_1_of_the_paper_and_the_later_scoring() -> None:
    """Chang et al. (2019), Table 1, and the leaderboard of the solution v2.1."""
    values = yaml.safe_load((CONF / "gldv2" / "parameters_evaluation.yml").read_text())["published"]
    rows = PublishedConfig(**values).rows()
    assert [row[0] for row in rows[:4]] == list(VARIANTS)
    assert [row[2] for row in rows] == [0.2030, 0.2290, 0.2672, 0.3218, 0.3210]
    assert [row[1] for row in rows] == [None] * 4 + [0.2992]


def test_other_data_sets_have_none() -> None:
    for file in CONF.glob("*/parameters_evaluation.yml"):
        published = yaml.safe_load(file.read_text()).get("published", {})
        assert file.parent.name == "gldv2" or not published.get("results")


def test_misspelt() -> None:
    with pytest.raises(LandmarkRetrievalError, match="results"):
        PublishedConfig(result=())  # type: ignore[call-arg]

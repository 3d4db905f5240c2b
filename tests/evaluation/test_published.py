from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.evaluation.published import PublishedConfig
from variant_names import VARIANTS

CONF = Path(__file__).resolve().parents[2] / "conf"


def test_table_1_of_the_paper_and_the_later_scoring() -> None:
    """Chang et al. (2019), Table 1, and the leaderboard of the solution v2.1."""
    values = yaml.safe_load((CONF / "gldv2" / "parameters_evaluation.yml").read_text())["published"]
    rows = PublishedConfig(**values).rows()
    assert [row[0] for row in rows[:4]] == list(VARIANTS)
    assert [row[2] for row in rows] == [0.2030, 0.2290, 0.2672, 0.3218, 0.3210]
    assert [row[1] for row in rows] == [0.1753, 0.2150, 0.2545, 0.2964, 0.2992]


def test_growth_from_row_to_row() -> None:
    """The paper's own words: +12.8 %, +16.7 %, +20.4 % private; ours beside them where all rows are there."""
    values = yaml.safe_load((CONF / "gldv2" / "parameters_evaluation.yml").read_text())["published"]
    measured = dict(zip(VARIANTS, ({"mAP_at_100_private": m} for m in (0.2, 0.3, 0.33, 0.33)), strict=True))
    text = PublishedConfig(**values).growth(measured)
    assert "private: +12.8 % +16.7 % +20.4 %, here +50.0 % +10.0 % +0.0 %" in text
    assert "public: +22.6 % +18.4 % +16.5 %" in text
    assert PublishedConfig().growth(measured) == ""


def test_other_data_sets_have_none() -> None:
    for file in CONF.glob("*/parameters_evaluation.yml"):
        published = yaml.safe_load(file.read_text()).get("published", {})
        assert file.parent.name == "gldv2" or not published.get("results")


def test_misspelt() -> None:
    with pytest.raises(LandmarkRetrievalError, match="results"):
        PublishedConfig(result=())  # type: ignore[call-arg]

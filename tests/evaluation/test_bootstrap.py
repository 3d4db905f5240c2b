from __future__ import annotations

from unittest import mock

import numpy as np
import pytest

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.evaluation import bootstrap
from landmark_retrieval.evaluation.bootstrap import (
    BootstrapConfig,
    difference_interval,
    interval_metrics,
    intervals_table,
    mean_interval,
    usage_intervals,
)

VALUES = np.random.default_rng(5).beta(2, 1, 400)


def test_close_to_the_normal_interval() -> None:
    interval = mean_interval(VALUES, BootstrapConfig(resamples=20_000))
    half = 1.96 * VALUES.std() / np.sqrt(len(VALUES))
    assert interval.mean == pytest.approx(VALUES.mean())
    assert interval.low == pytest.approx(VALUES.mean() - half, abs=0.002)
    assert interval.high == pytest.approx(VALUES.mean() + half, abs=0.002)


def test_exact_on_two_queries() -> None:
    """The mean of two draws of {0, 1} is 0, 1/2 or 1 with probabilities 1/4, 1/2, 1/4."""
    config = BootstrapConfig(resamples=4000)
    with mock.patch("landmark_retrieval.evaluation.bootstrap.CONFIDENCE", 0.4):
        interval = mean_interval(np.array([0.0, 1.0]), config)
    assert (interval.low, interval.high) == (0.5, 0.5)
    wide = mean_interval(np.array([0.0, 1.0]), config)
    assert (wide.low, wide.high) == (0, 1)


def test_coverage() -> None:
    random = np.random.default_rng(0)
    config = BootstrapConfig(resamples=300)
    inside = 0
    for _ in range(200):
        interval = mean_interval(random.beta(2, 1, 60), config)
        inside += interval.low <= 2 / 3 <= interval.high
    assert 178 <= inside <= 199


def test_the_seed_decides() -> None:
    assert mean_interval(VALUES) == mean_interval(VALUES)
    assert mean_interval(VALUES) != mean_interval(VALUES, BootstrapConfig(seed=1))


def test_blocks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = mean_interval(VALUES)
    monkeypatch.setattr(bootstrap, "_CELLS", 1000)
    assert mean_interval(VALUES) == whole


def test_pairing_cancels_what_queries_share() -> None:
    better = VALUES + 0.01
    gain = difference_interval(better, VALUES)
    assert gain.low == pytest.approx(0.01) and gain.high == pytest.approx(0.01)
    alone = mean_interval(better)
    assert alone.low < VALUES.mean() < alone.high
    nothing = difference_interval(VALUES, VALUES)
    assert (nothing.mean, nothing.low, nothing.high) == (0, 0, 0)


def test_queries_that_do_not_count_are_left_out() -> None:
    with_gaps = np.append(VALUES, [np.nan, np.nan])
    assert mean_interval(with_gaps) == mean_interval(VALUES)
    assert mean_interval(np.array([0.5])).queries == 1


def test_table() -> None:
    table = intervals_table({"blend": VALUES, "blend_qe_sv": VALUES**0.5, "same": VALUES**0.5})
    assert table["variant"].tolist() == ["blend", "blend_qe_sv", "same"]
    assert table["compared_with"].tolist() == ["", "blend", "blend_qe_sv"]
    assert np.isnan(table["gain"][0]) and table["gain_low"][1] > 0 and table["gain"][2] == 0
    assert (table["low"] <= table["mean"]).all() and (table["mean"] <= table["high"]).all()
    assert table["gain"][1] == pytest.approx(table["mean"][1] - table["mean"][0])


def test_errors() -> None:
    with pytest.raises(LandmarkRetrievalError, match="no query counts"):
        mean_interval(np.array([np.nan]))
    with pytest.raises(LandmarkRetrievalError, match="one has 400 and the other 3"):
        difference_interval(VALUES, VALUES[:3])
    with pytest.raises(LandmarkRetrievalError, match="did you mean 'resamples'"):
        BootstrapConfig(resample=3)  # type: ignore[call-arg]


def test_parts_by_usage_are_scored_on_their_own_queries() -> None:
    usage = np.array(["Public", "Private"] * 200)
    scores = {"blend": VALUES, "expanded": VALUES + 0.1}
    table = usage_intervals(scores, usage).set_index(["metric", "variant"])
    for metric, own in (("mAP_at_100", VALUES), ("mAP_at_100_public", VALUES[::2])):
        alone = mean_interval(own)
        row = table.loc[(metric, "blend")]
        assert (row["low"], row["high"], row["mean"]) == (alone.low, alone.high, alone.mean)
    assert table.loc[("mAP_at_100_private", "expanded"), "gain"] == pytest.approx(0.1)
    assert set(usage_intervals(scores)["metric"]) == {"mAP_at_100"}


def test_a_part_without_counted_queries_is_left_out() -> None:
    usage = np.array(["Public"] * 3 + ["Ignored"])
    table = usage_intervals({"blend": np.array([0.1, 0.2, 0.3, np.nan])}, usage)
    assert table["metric"].tolist() == ["mAP_at_100", "mAP_at_100_public"]


def test_metrics_of_one_variant() -> None:
    table = usage_intervals({"blend": VALUES, "expanded": VALUES + 0.1})
    assert set(interval_metrics(table, "blend")) == {"mAP_at_100_low", "mAP_at_100_high"}
    own = interval_metrics(table, "expanded")
    assert own["mAP_at_100_gain"] == own["mAP_at_100_gain_low"] == pytest.approx(0.1)
    assert len(own) == 5 and interval_metrics(table, "unknown") == {}

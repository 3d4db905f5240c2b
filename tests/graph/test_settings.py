import math

import pytest

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.graph import EgtConfig, LabelBridgeConfig, TraversalConfig, settle

CHOSEN = {"egt": {"t": 0.7}, "label_bridge": {"index_votes": 5, "min_similarity": -math.inf}}


def test_defaults_without_a_sweep():
    egt, bridge = (
        EgtConfig(t=0.42, p=100),
        LabelBridgeConfig(query_votes=3, index_votes=3, min_similarity=0.0, order="query_similarity"),
    )
    assert settle(EgtConfig(), LabelBridgeConfig(), {}) == TraversalConfig(egt=egt, label_bridge=bridge)
    assert TraversalConfig() == TraversalConfig(egt=egt, label_bridge=bridge)


def test_what_a_sweep_chose_fills_what_is_open():
    settled = settle(EgtConfig(p=7), LabelBridgeConfig(order="row"), CHOSEN)
    assert settled.egt == EgtConfig(t=0.7, p=7)
    assert settled.label_bridge == LabelBridgeConfig(
        query_votes=3, index_votes=5, min_similarity=-math.inf, order="row"
    )


def test_what_is_given_wins():
    settled = settle(EgtConfig(t=0.1), LabelBridgeConfig(index_votes=3), CHOSEN)
    assert (settled.egt.t, settled.label_bridge.index_votes) == (0.1, 3)


def test_a_chosen_option_that_does_not_exist_is_refused():
    with pytest.raises(LandmarkRetrievalError, match="did you mean 't'"):
        settle(EgtConfig(), LabelBridgeConfig(), {"egt": {"tt": 0.5}})


def test_infinite_thresholds_survive_json():
    egt, bridge = EgtConfig(t=-math.inf), LabelBridgeConfig(min_similarity=-math.inf)
    for config in (egt, bridge, TraversalConfig(egt=egt, label_bridge=bridge)):
        assert type(config)(**config.model_dump(mode="json")) == config

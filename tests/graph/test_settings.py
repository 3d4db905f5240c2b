import math

from landmark_retrieval.graph import (
    EgtConfig,
    LabelBridgeConfig,
    OpenEgtConfig,
    OpenLabelBridgeConfig,
    settle,
)

CHOSEN = {"egt": {"t": 0.7}, "label_bridge": {"index_votes": 5, "min_similarity": -math.inf}}


def test_defaults_without_a_sweep():
    assert settle(OpenEgtConfig(), OpenLabelBridgeConfig(), {}) == (EgtConfig(), LabelBridgeConfig())


def test_what_a_sweep_chose_fills_what_is_open():
    egt, bridge = settle(OpenEgtConfig(p=7), OpenLabelBridgeConfig(order="row"), CHOSEN)
    assert egt == EgtConfig(t=0.7, p=7)
    assert bridge == LabelBridgeConfig(index_votes=5, min_similarity=-math.inf, order="row")


def test_what_is_given_wins():
    egt, bridge = settle(OpenEgtConfig(t=0.1), OpenLabelBridgeConfig(index_votes=3), CHOSEN)
    assert (egt.t, bridge.index_votes) == (0.1, 3)


def test_infinite_thresholds_survive_json():
    for config in (EgtConfig(t=-math.inf), LabelBridgeConfig(min_similarity=-math.inf)):
        assert type(config)(**config.model_dump(mode="json")) == config

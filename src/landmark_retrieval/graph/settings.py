"""All options of the traversals, and how those that are left open are settled."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict

from landmark_retrieval.configuration import Configuration
from landmark_retrieval.graph.egt import EgtConfig
from landmark_retrieval.graph.label_bridge import LabelBridgeConfig

logger = logging.getLogger(__name__)


class TraversalConfig(Configuration):
    """How graphs are traversed.

    Attributes:
        egt: the traversal itself.
        label_bridge: how labels of train images are voted and used.
    """

    model_config = ConfigDict(ser_json_inf_nan="strings")

    egt: EgtConfig = EgtConfig().settled()
    label_bridge: LabelBridgeConfig = LabelBridgeConfig().settled()


def settle(
    egt: EgtConfig, bridge: LabelBridgeConfig, chosen: Mapping[str, Mapping[str, Any]]
) -> TraversalConfig:
    """Fill what is left open: what is given wins over what a sweep chose, that wins over the defaults.

    Args:
        egt: options as given.
        bridge: options as given.
        chosen: `egt` and `label_bridge`, each some options and values (`experiments.sweep.chosen_options`);
            empty when there was no sweep.

    Returns:
        Both without open options; a log line names each option that a sweep chose.

    Raises:
        LandmarkRetrievalError: an option that a sweep chose does not exist.
    """
    for name, config in {"egt": egt, "label_bridge": bridge}.items():
        for option, value in chosen.get(name, {}).items():
            if getattr(config, option, None) is None:
                logger.info("%s.%s = %s, chosen by egt_sweep on the train split", name, option, value)
    return TraversalConfig(
        egt=egt.settled(chosen.get("egt")), label_bridge=bridge.settled(chosen.get("label_bridge"))
    )

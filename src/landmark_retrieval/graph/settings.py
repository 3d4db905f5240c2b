"""Options of the traversal that may be left open, and how they are settled."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ConfigDict, Field

from landmark_retrieval.configuration import Configuration
from landmark_retrieval.graph.egt import EgtConfig
from landmark_retrieval.graph.label_bridge import LabelBridgeConfig

logger = logging.getLogger(__name__)


class OpenEgtConfig(Configuration):
    """`EgtConfig` whose options may be None: then what a sweep chose for the data set, else the default.

    Attributes as in `EgtConfig`.
    """

    model_config = ConfigDict(ser_json_inf_nan="strings")

    weights: Literal["verified", "similarity"] = "verified"
    trust: float = Field(default=0.9, gt=0, lt=1)
    t: float | None = None
    p: int = Field(default=100, ge=1)
    threads: int = Field(default=0, ge=0)


class OpenLabelBridgeConfig(Configuration):
    """`LabelBridgeConfig` whose options may be None: then what a sweep chose, else the default.

    Attributes as in `LabelBridgeConfig`, but for `min_similarity`: -.inf sets no floor.
    """

    model_config = ConfigDict(ser_json_inf_nan="strings")

    precedence: Literal["evidence", "always"] = "evidence"
    query_votes: int | None = Field(default=None, ge=1)
    index_votes: int | None = Field(default=None, ge=1)
    min_similarity: float | None = None
    order: Literal["query_similarity", "query_neighbors", "train_similarity", "row"] | None = None


def settle(
    egt: OpenEgtConfig, bridge: OpenLabelBridgeConfig, chosen: Mapping[str, Mapping[str, Any]]
) -> tuple[EgtConfig, LabelBridgeConfig]:
    """Fill what is left open: what is given wins over what a sweep chose, that wins over the defaults.

    Args:
        egt: options as given.
        bridge: options as given.
        chosen: `egt` and `label_bridge`, each some options and values (`evaluation.sweep.chosen_options`);
            empty when there was no sweep.

    Returns:
        Both configurations without open options; a log line names each that a sweep chose.

    Raises:
        LandmarkRetrievalError: an option that a sweep chose does not exist.
    """
    return (
        EgtConfig(**_settled(egt, chosen.get("egt", {}), "egt")),
        LabelBridgeConfig(**_settled(bridge, chosen.get("label_bridge", {}), "label_bridge")),
    )


def _settled(given: Configuration, chosen: Mapping[str, Any], group: str) -> dict[str, Any]:
    values = {name: value for name, value in given.model_dump().items() if value is not None}
    for name, value in chosen.items():
        if name not in values:
            values[name] = value
            logger.info("%s.%s = %s, chosen by egt_sweep on the train split", group, name, value)
    return values

"""How configuration files are read: the environments, and the resolvers that they use."""

from __future__ import annotations

from typing import Any

from omegaconf import OmegaConf
from omegaconf.resolvers import oc

from landmark_retrieval.collection.naming import data_set_name


def configured_data_set_name() -> str:
    """Return the name of the folder of a run's artifacts, in files `${data_set_name:}`."""
    options = ("image_root,null", "data_root,null", "distractors,false", "descriptors,null")
    given = OmegaConf.create(
        ["${globals:data_set}", *(f"${{runtime_params:{option}}}" for option in options)]
    )
    return data_set_name(*given)


CONFIG_LOADER_ARGS: dict[str, Any] = {
    "base_env": "base",
    "default_run_env": "local",
    "custom_resolvers": {"data_set_name": configured_data_set_name, "oc.env": oc.env},
}
"""Arguments of Kedro's `OmegaConfigLoader`."""

"""How configuration files are read: the environments, and the resolvers that they use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kedro.config import AbstractConfigLoader, MissingConfigException, OmegaConfigLoader
from omegaconf import OmegaConf
from omegaconf.resolvers import oc

from landmark_retrieval.collection.naming import data_set_name

BUILDS_ON = "builds_on"
"""Name in an environment's `globals.yml` that says on which other environment it builds."""

RUNTIME_OPTIONS = ("image_root", "labels", "protocol", "data_root", "distractors", "seed")
"""Options of `kedro run --params` that configuration files read; all others are parameter groups."""

PLAIN_GROUPS = ("variants", "tracking")
"""Parameters that no node takes: the pipelines themselves and the connection to MLflow depend on them."""


def configured_seed() -> int:
    """Return the number from which all random choices of a run start, in files `${seed:}`."""
    on_command_line, in_files = _given("runtime_params:seed,null", "globals:seed")
    seed: int = in_files if on_command_line is None else on_command_line
    return seed


def configured_data_set_name() -> str:
    """Return the name of the folder of a run's artifacts, in files `${data_set_name:}`."""
    options = ("image_root,null", "data_root,null", "distractors,false", "descriptors,null")
    return data_set_name(*_given("globals:data_set", *(f"runtime_params:{option}" for option in options)))


def _given(*names: str) -> Sequence[Any]:
    """Return what a run's globals and runtime parameters say."""
    return OmegaConf.create([f"${{{name}}}" for name in names])


def tracking_uri(config: AbstractConfigLoader) -> str | None:
    """Return the address of MLflow that the configuration names (`mlflow.yml`), None where it names none."""
    try:
        server: dict[str, Any] = config["mlflow"].get("server") or {}
    except MissingConfigException:
        return None
    return server.get("mlflow_tracking_uri")


class ConfigLoader(OmegaConfigLoader):
    """Kedro's loader, for environments that build on another one.

    What two environments have in common stands in a third, which both name (`builds_on`). A group of theirs
    replaces the group of that name in the third, as that replaces the one in the base environment.
    """

    def __getitem__(self, key: str) -> dict[str, Any]:
        """Return the merged configuration of a kind (`catalog`, `parameters`, ...)."""
        # Kedro reads the globals while the loader is made; they are those of base and of the environment.
        shared = None if key == "globals" or key in self else self["globals"].get(BUILDS_ON)
        if shared is None:
            return super().__getitem__(key)
        parts = [self._read(key, self.base_env, shared), self._read(key, shared, self.env)]
        if not any(parts):
            return super().__getitem__(key)  # which says what is missing
        return {name: value for part in parts for name, value in part.items()}

    def _read(self, key: str, base: str, env: str | None) -> dict[str, Any]:
        """Return what a pair of environments gives, with the globals of this one."""
        loader = OmegaConfigLoader(
            self.conf_source,
            env=env,
            runtime_params=self.runtime_params,
            config_patterns=self.config_patterns,
            base_env=base,
            custom_resolvers=CONFIG_LOADER_ARGS["custom_resolvers"],
        )
        loader["globals"] = self["globals"]
        try:
            return dict(loader[key])
        except MissingConfigException:
            return {}


CONFIG_LOADER_ARGS: dict[str, Any] = {
    "base_env": "base",
    "config_patterns": {"mlflow": ["mlflow*", "mlflow*/**", "**/mlflow*"]},
    "default_run_env": "local",
    "custom_resolvers": {
        "data_set_name": configured_data_set_name,
        "seed": configured_seed,
        "oc.env": oc.env,
    },
}
"""Arguments of `ConfigLoader`."""

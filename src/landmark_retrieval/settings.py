"""Project settings: hooks and how configuration is read."""

from __future__ import annotations

import warnings

from landmark_retrieval.catalog import ChainCatalog, ChainContext
from landmark_retrieval.config_loader import CONFIG_LOADER_ARGS as CONFIG_LOADER_ARGS
from landmark_retrieval.config_loader import ConfigLoader
from landmark_retrieval.late_hooks import LateHooks

with warnings.catch_warnings(record=True):
    # Kedro loads the commands of kedro-mlflow; MLflow then warns of one of its classes, whatever filters say.
    import kedro_mlflow.mlflow  # noqa: F401

# ExperimentHooks extends kedro-mlflow's hook, which must not be registered a second time.
DISABLE_HOOKS_FOR_PLUGINS = ("kedro-mlflow", "kedro_mlflow")
CONFIG_LOADER_CLASS = ConfigLoader
HOOKS = (LateHooks(),)
CONTEXT_CLASS = ChainContext
DATA_CATALOG_CLASS = ChainCatalog

# Warnings that no user of this project can act on.
for message in (
    ".*register_new_resolver.*",
    ".*dataset names contain '.' characters.*",  # namespaced names across pipelines are meant
):
    warnings.filterwarnings("ignore", message=message)

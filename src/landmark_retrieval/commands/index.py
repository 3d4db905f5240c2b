"""How commands open the index of a finished run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from landmark_retrieval.commands.params import params_option

if TYPE_CHECKING:
    from kedro.io import CatalogProtocol

    from landmark_retrieval.descriptors import BlendConfig
    from landmark_retrieval.descriptors.imported import ImportSteps
    from landmark_retrieval.retrieval import DescriptorSearch, PhotoSearch


def index_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of `kedro run` that say which index: `--env` and `--params`."""
    from kedro.framework.cli.project import run

    env = next(option for option in run.params if option.name == "env")
    command.__dict__.setdefault("__click_params__", []).extend([params_option, env])
    return command


def open_catalog(env: str | None, params: Mapping[str, Any]) -> CatalogProtocol[Any, Any]:
    """Return the catalog of `kedro run` with the same options, for commands that run and track nothing.

    No hooks are called, so that MLflow is not spoken to.

    Args:
        env: configuration environment.
        params: runtime parameters.

    Raises:
        LandmarkRetrievalError: parameters do not exist or have senseless values.
    """
    from kedro.framework.context import KedroContext
    from kedro.framework.project import pipelines, settings
    from kedro.framework.startup import bootstrap_project

    from landmark_retrieval.commands.environments import check_environment
    from landmark_retrieval.commands.run_checks import configuration, validated
    from landmark_retrieval.errors import LandmarkRetrievalError

    project = Path.cwd()
    package = bootstrap_project(project).package_name
    check_environment(env)
    config = configuration(env, str(project / settings.CONF_SOURCE), params)
    if config is None:
        raise LandmarkRetrievalError(f"{project / settings.CONF_SOURCE}: there is no folder of configuration")
    _, faults = validated(config["parameters"], pipelines)
    if faults:
        raise LandmarkRetrievalError("; ".join(faults))
    no_hooks: Any = SimpleNamespace(hook=SimpleNamespace(after_catalog_created=lambda **_: None))
    given: Any = dict(params)
    return KedroContext(project, config, env, package, no_hooks, given).catalog


def data_set_of(env: str | None, params: Mapping[str, Any]) -> str:
    """Return the name of the data set that `kedro run` reads with the same options.

    Only configuration is read, nothing that a run needs besides is loaded.

    Args:
        env: configuration environment.
        params: runtime parameters.
    """
    from landmark_retrieval.collection import DataSetConfig
    from landmark_retrieval.commands.environments import check_environment
    from landmark_retrieval.commands.run_checks import configuration
    from landmark_retrieval.errors import LandmarkRetrievalError

    check_environment(env)
    config = configuration(env, str(Path.cwd() / "conf"), params)
    if config is None:
        raise LandmarkRetrievalError(f"{Path.cwd() / 'conf'}: there is no folder of configuration")
    return DataSetConfig.model_validate(config["parameters"]["data_set"]).name


def open_index(env: str | None, params: dict[str, Any]) -> tuple[PhotoSearch, str]:
    """Return a search in the index that `kedro run` made with the same options, and its data set's name.

    Args:
        env: configuration environment.
        params: runtime parameters.

    Raises:
        LandmarkRetrievalError: there is none, it is incomplete, or it was made with other parameters.
    """
    from landmark_retrieval.collection import DataSetConfig
    from landmark_retrieval.descriptors import DESCRIPTORS
    from landmark_retrieval.retrieval import PhotoSearch, read_index

    load = _loader(env, params)
    name = DataSetConfig.model_validate(load("params:data_set")).name
    return PhotoSearch(read_index(load, DESCRIPTORS)), name


def open_descriptors(
    env: str | None, params: dict[str, Any]
) -> tuple[DescriptorSearch, ImportSteps | None, BlendConfig]:
    """Return a search by descriptors in the index that `kedro run` made with the same options.

    Args:
        env: configuration environment.
        params: runtime parameters.

    Returns:
        The search; what was done to the files of descriptors that the index was made of, None for an index of
        photos; and how they are blended.

    Raises:
        LandmarkRetrievalError: as `open_index`.
    """
    from landmark_retrieval.descriptors import BlendConfig
    from landmark_retrieval.descriptors.imported import ImportConfig
    from landmark_retrieval.retrieval import DescriptorSearch, read_run_index

    load = _loader(env, params)
    own = ImportConfig.model_validate(load("params:descriptors"))
    steps = load("import_steps") if own.files else None
    return DescriptorSearch(read_run_index(load)), steps, BlendConfig.model_validate(load("params:blend"))


def _loader(env: str | None, params: dict[str, Any]) -> Callable[[str], Any]:
    """Return what loads artifacts and parameters of a run with these options by their names."""
    from kedro.io import DatasetError

    from landmark_retrieval.errors import LandmarkRetrievalError

    catalog = open_catalog(env, params)

    def load(name: str) -> Any:
        if not name.startswith("params:") and not catalog.exists(name):
            raise LandmarkRetrievalError(
                f"there is no index to search: '{name}' is missing; build it with `kedro run` "
                "(with the same --env and --params)"
            )
        try:
            return catalog.load(name)
        except DatasetError as error:
            raise LandmarkRetrievalError(str(error.__cause__ or error)) from error

    return load

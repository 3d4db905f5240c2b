"""The look at everything that a run depends on, before any photo is read: parameters, files, folders."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from landmark_retrieval.errors import LandmarkRetrievalError

if TYPE_CHECKING:
    from kedro.config import OmegaConfigLoader
    from kedro.pipeline import Pipeline
    from pydantic import BaseModel

logger = logging.getLogger(__name__)

FILTERS = {
    "tags": "tags",
    "from_nodes": "from_nodes",
    "to_nodes": "to_nodes",
    "node_names": "node_names",
    "from_inputs": "from_inputs",
    "to_outputs": "to_outputs",
    "namespaces": "node_namespaces",
}
"""Options of `kedro run` that choose nodes, by the names that `Pipeline.filter` has for them."""

IN_MEMORY = {"{default}": {"type": "kedro.io.MemoryDataset"}}
"""What is not in the catalog."""

MADE_BY = {"trained_file": "; make it with `kedro run --pipelines training` or `kedro convert-checkpoint`"}
"""What makes the file of an option."""


def configuration(
    env: str | None, conf_source: str | None, params: Mapping[str, Any]
) -> OmegaConfigLoader | None:
    """Return what reads the configuration of a run; None where it lies in an archive.

    Args:
        env: as given on the command line.
        conf_source: folder with the environments; None for the project's own.
        params: runtime parameters.
    """
    from landmark_retrieval.config_loader import CONFIG_LOADER_ARGS, ConfigLoader

    folder = Path(conf_source or "conf")
    if not folder.is_dir():
        return None
    return ConfigLoader(
        str(folder),
        env=env or os.environ.get("KEDRO_ENV"),
        runtime_params=dict(params),
        **CONFIG_LOADER_ARGS,
    )


def check_run(config: OmegaConfigLoader, options: Mapping[str, Any]) -> None:
    """Stop a run that would stop later, and name all faults that can be known before it starts.

    Args:
        config: from `configuration`.
        options: those of `kedro run`.

    Raises:
        LandmarkRetrievalError: parameters that do not exist or have senseless values or do not go together,
            files that are read and not there, folders that are written and cannot be.
    """
    tracking = _tracking_faults(config)
    from landmark_retrieval.pipeline_registry import register_pipelines
    from landmark_retrieval.retrieval.variants import choose_variants

    given = config["parameters"]
    try:
        variants, unknown = choose_variants(given.get("variants")), []
    except LandmarkRetrievalError as error:
        variants, unknown = choose_variants(None), [str(error)]
    pipelines = register_pipelines(variants)
    groups, faults = validated(given, pipelines)
    faults += [*unknown, *tracking]
    nodes = _chosen_nodes(pipelines, options)
    outputs = dict(_written(config["catalog"], nodes))
    faults += list(_files_missing(groups, nodes, set(outputs.values())))
    faults += list(_contradictions(groups))
    faults += list(_folders_closed(outputs))
    if faults:
        raise LandmarkRetrievalError("; ".join(dict.fromkeys(faults)))


def _tracking_faults(config: OmegaConfigLoader) -> list[str]:
    """Return what is wrong with MLflow, said at once, as everything else takes a while."""
    import mlflow

    from landmark_retrieval.config_loader import tracking_uri
    from landmark_retrieval.io.tracking import TrackingConfig, usable_store

    uri = tracking_uri(config)
    try:
        options = TrackingConfig.model_validate(config["parameters"].get("tracking", {}))
        if uri is not None and mlflow.active_run() is None and options.unreachable == "stop":
            usable_store(uri, options)
    except LandmarkRetrievalError as error:
        logger.warning("%s", error)
        return [str(error)]
    return []


def validated(
    given: Mapping[str, Any], pipelines: Mapping[str, Pipeline]
) -> tuple[dict[str, BaseModel], list[str]]:
    """Return the parameter groups whose values are sound, and what is wrong with the others.

    Args:
        given: plain values by group.
        pipelines: all of them, whose nodes say which model a group is of.
    """
    from kedro.validation.type_extractor import TypeExtractor

    from landmark_retrieval.config_loader import PLAIN_GROUPS, RUNTIME_OPTIONS
    from landmark_retrieval.configuration import unknown_option

    models = TypeExtractor(dict(pipelines)).extract_types_from_pipelines()
    known = {*models, *RUNTIME_OPTIONS, *PLAIN_GROUPS}
    faults = [unknown_option(name, sorted(known), kind="parameter") for name in given if name not in known]
    groups = {}
    for name, model in models.items():
        try:
            groups[name] = model.model_validate(given.get(name))  # type: ignore[attr-defined]
        except LandmarkRetrievalError as error:
            faults.append(f"Parameter '{name}': {error}")
    return groups, faults


def _chosen_nodes(pipelines: Mapping[str, Pipeline], options: Mapping[str, Any]) -> Pipeline:
    """Return the nodes of a run; all of its pipelines where the options name nodes that do not exist."""
    from kedro.pipeline import Pipeline

    named = [*options.get("pipelines", ()), *([options["pipeline"]] if options.get("pipeline") else [])]
    whole = sum(
        (pipelines[name] for name in named or ["__default__"] if name in pipelines), start=Pipeline([])
    )
    try:
        return whole.filter(**{theirs: options.get(ours) or None for ours, theirs in FILTERS.items()})
    except ValueError:  # which Kedro says itself
        return whole


def _written(catalog: Mapping[str, Any], nodes: Pipeline) -> Iterator[tuple[str, Path]]:
    """Yield the name of every local file or folder that a run writes, and where it lies."""
    from kedro.io import CatalogConfigResolver

    resolver = CatalogConfigResolver(dict(catalog), default_runtime_patterns=IN_MEMORY)
    for name in sorted({*nodes.all_outputs(), *({"store"} & nodes.inputs())}):
        entry = resolver.resolve_pattern(name) or {}
        inner = entry.get("dataset")
        path = entry.get("filepath") or (inner.get("filepath") if isinstance(inner, Mapping) else None)
        if path and "://" not in str(path):
            yield name, Path(path).expanduser().resolve()


def _files_missing(groups: Mapping[str, Any], nodes: Pipeline, made: set[Path]) -> Iterator[str]:
    """Yield a sentence for every file that the nodes read by an option and that nobody makes."""
    read = {name.removeprefix("params:").split(".")[0] for name in nodes.inputs()}
    for group, values in groups.items():
        for option, file in values.read_files().items() if group in read else ():
            path = Path(file).expanduser().resolve()
            if not path.is_file() and path not in made:
                remedy = MADE_BY.get(option.rpartition(".")[2], "")
                yield f"Parameter '{group}': option '{option}': there is no file '{file}'{remedy}"


def _contradictions(groups: Mapping[str, Any]) -> Iterator[str]:
    """Yield a sentence for all values that are sound alone and not with those of another group."""
    from landmark_retrieval.descriptors import DESCRIPTORS

    blend, own = groups.get("blend"), groups.get("descriptors")
    if blend is not None and own is not None and blend.weights is not None:
        names = own.files or DESCRIPTORS
        if len(blend.weights) != len(names):
            yield (
                f"Parameter 'blend': option 'weights' has {len(blend.weights)} numbers for {len(names)} "
                f"descriptors ({', '.join(Path(name).name for name in names)}); give one each, such as "
                f"blend.weights=[{','.join(['1'] * len(names))}]"
            )


def _folders_closed(outputs: Mapping[str, Path]) -> Iterator[str]:
    """Yield a sentence for every folder that is written and cannot be."""
    from landmark_retrieval.commands.output import cannot_write

    for folder in dict.fromkeys(file.parent for file in outputs.values()):
        problem = cannot_write(folder / "file")
        if problem:
            yield problem

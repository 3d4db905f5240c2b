"""`kedro certify`: what a run was made of and what came out, in digests that a repetition must reproduce."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from landmark_retrieval.commands.errors import plain_errors
from landmark_retrieval.commands.index import index_options, open_catalog
from landmark_retrieval.commands.output import check_output, force_option, writing

DEFAULT = "data/08_reporting/certificate.json"


@click.command()
@index_options
@click.option(
    "--output", default=DEFAULT, show_default=True, type=click.Path(dir_okay=False), help="File to write."
)
@click.option(
    "--check",
    type=click.Path(exists=True, dir_okay=False),
    help="Repeat the run of this certificate in a folder of its own, and compare.",
)
@click.option(
    "--stored", is_flag=True, help="With --check: compare what is stored here instead of a repetition."
)
@force_option
@plain_errors
def certify(
    env: str | None, params: dict[str, Any], output: str, check: str | None, stored: bool, force: bool
) -> None:
    """Write a certificate of the last `kedro run` with these --env and --params, or check one.

    It names commit, lock file, parameters, machine and seed, and holds digests of photos, table, weights, of
    every artifact in the order of the stages, every ranking and every metric. It is also kept with the MLflow
    run. A check exits with 1 and names the first stage at which the two runs part.
    """
    from landmark_retrieval.errors import LandmarkRetrievalError
    from landmark_retrieval.runtime.certificate import FORMAT, differences

    if check is None:
        file = check_output(output, [], _is_certificate, force, DEFAULT)
        made = make_certificate(Path.cwd(), env, params)
        with writing(file) as temporary:
            temporary.write_text(json.dumps(made, indent=1, default=str), encoding="utf-8")
        click.echo(f"{output}: {len(made['stages'])} artifacts{_keep_in_mlflow(file, made, env, params)}")
        return
    try:
        kept = json.loads(Path(check).read_text(encoding="utf-8"))
        command = kept["command"]
        if kept["format"] != FORMAT:
            raise KeyError("format")
    except (ValueError, KeyError, TypeError) as error:
        raise LandmarkRetrievalError(f"{check}: is no certificate of this program ({error!r})") from error
    if stored:
        again = make_certificate(Path.cwd(), command["env"], command["params"])
    else:
        again = repeat(Path.cwd(), command["env"], command["params"])
    found = differences(kept, json.loads(json.dumps(again, default=str)))
    for line in found:
        click.echo(line)
    if any(not line.startswith("input ") for line in found):
        raise click.ClickException(f"{check}: the runs are not the same, see above")
    click.echo(f"{check}: all {len(kept['stages'])} artifacts and all metrics are the same")


def _is_certificate(file: Path) -> bool:
    """Tell whether a file is a certificate of an earlier call."""
    try:
        return {"format", "stages", "command"} <= set(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        return False


def make_certificate(project: Path, env: str | None, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the certificate of what a project has stored of a run.

    Args:
        project: its folder, which is also the working folder.
        env: configuration environment.
        params: runtime parameters.

    Raises:
        LandmarkRetrievalError: there is no finished run.
    """
    from kedro.framework.project import pipelines

    from landmark_retrieval.configuration import digest
    from landmark_retrieval.errors import LandmarkRetrievalError
    from landmark_retrieval.images import content_digest
    from landmark_retrieval.pipeline_registry import whole_run
    from landmark_retrieval.runtime.certificate import certificate, digest_of
    from landmark_retrieval.runtime.run_facts import run_facts

    catalog = open_catalog(env, params)
    parameters = _plain(catalog.load("parameters"))
    whole = pipelines[whole_run(params)]
    names = [name for node in whole.nodes for name in sorted(node.outputs) if _is_certified(name, catalog)]
    if "image_table" not in names or not any(name.endswith(".ranking") for name in names):
        raise LandmarkRetrievalError(
            "there is no finished run to certify; make it with `kedro run` (with the same --env and --params)"
        )
    metrics = {
        name.removesuffix(".metrics"): catalog.load(name) for name in names if name.endswith(".metrics")
    }
    table = catalog.load("image_table")
    facts = run_facts(project)
    lock = project / "requirements.lock"
    inputs = {
        "commit": facts.pop("commit"),
        "lock": content_digest(lock) if lock.is_file() else "none",
        "machine": facts,
        "seed": parameters.get("data_set", {}).get("seed"),
        "parameters": parameters,
        "photos": digest(*(content_digest(path) for path in table["path"])),
        "table": digest_of(table.drop(columns="path")),
        "weights": _weights(parameters),
    }
    stages = ((name, catalog.load(name)) for name in names if not name.endswith(".metrics"))
    return certificate(inputs, _without_paths(stages), metrics, {"env": env, "params": dict(params)})


def repeat(project: Path, env: str | None, params: Mapping[str, Any]) -> dict[str, Any]:
    """Run again in a temporary folder, where nothing is stored yet, and return the certificate of that.

    Raises:
        LandmarkRetrievalError: the run fails.
    """
    from landmark_retrieval.errors import LandmarkRetrievalError

    with tempfile.TemporaryDirectory(prefix="certify-") as folder:
        root = Path(folder)
        for name in ("conf", "src"):  # Kedro wants its sources below the project
            shutil.copytree(project / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "requirements.lock"):
            if (project / name).is_file():
                shutil.copy(project / name, root / name)
        (root / "data").mkdir()
        for entry in project.iterdir():
            if entry.name not in ("conf", "data", "mlruns", "mlflow.db") and not (root / entry.name).exists():
                (root / entry.name).symlink_to(entry)
        if (project / "data" / "01_raw").is_dir():
            (root / "data" / "01_raw").symlink_to(project / "data" / "01_raw")
        absolute = {name: _absolute(project, value) for name, value in params.items()}
        code = (
            "import json, sys; from pathlib import Path; "
            "from landmark_retrieval.commands.certify import make_certificate, run_again; "
            "env, params = json.loads(sys.argv[1]); run_again(env, params); "
            "made = make_certificate(Path.cwd(), env, params); "
            "Path('again.json').write_text(json.dumps(made, default=str))"
        )
        environment = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{root}/mlflow.db"}
        done = subprocess.run(
            [sys.executable, "-c", code, json.dumps([env, absolute])],
            cwd=root,
            env=environment,
            text=True,
            capture_output=True,
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no output"])[-1]
            raise LandmarkRetrievalError(f"the repetition failed: {last}")
        again: dict[str, Any] = json.loads((root / "again.json").read_text(encoding="utf-8"))
    return again


def run_again(env: str | None, params: Mapping[str, Any]) -> None:
    """Run the pipelines of a certificate in the working folder."""
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    from landmark_retrieval.pipeline_registry import whole_run

    bootstrap_project(Path.cwd())
    name = whole_run(params)
    with KedroSession.create(Path.cwd(), env=env, runtime_params=dict(params)) as session:
        session.run(pipeline_names=[name])  # type: ignore[call-arg]


def _is_certified(name: str, catalog: Any) -> bool:
    """Tell whether an artifact is content that a repetition must reproduce: no times, pictures or logs."""
    kinds = ("ArrayBundleDataset", "CSVDataset", "ParquetDataset", "JSONDataset")
    if name in ("ablation", "rivals", "met_files", "audit"):
        return False
    return type(catalog.get(name)).__name__ in kinds and catalog.exists(name)


def _without_paths(stages: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Leave out where photos lie, which a repetition elsewhere may change."""
    for name, value in stages:
        yield name, value.drop(columns="path") if name == "image_table" else value


def _absolute(project: Path, value: Any) -> Any:
    """Return a parameter that names a file or folder of the project with its full path."""
    if isinstance(value, Mapping):
        return {name: _absolute(project, part) for name, part in value.items()}
    if isinstance(value, str) and value and (project / value).exists():
        return str((project / value).resolve())
    return value


def _weights(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return what identifies the weights of each network, or the files of descriptors in their place."""
    from landmark_retrieval.descriptors import DESCRIPTORS, GlobalDescriptorConfig
    from landmark_retrieval.descriptors.extraction import network_identity
    from landmark_retrieval.descriptors.imported import ImportConfig
    from landmark_retrieval.local_features import LocalFeaturesConfig
    from landmark_retrieval.local_features.extraction import extractor_identity

    own = ImportConfig.model_validate(parameters.get("descriptors"))
    if own.files:
        return {Path(file).name: value for file, value in own.identity().items()}
    found: dict[str, Any] = {
        name: network_identity(GlobalDescriptorConfig.model_validate(parameters[name]))
        for name in DESCRIPTORS
    }
    local = LocalFeaturesConfig.model_validate(parameters["local_features"])
    return {**found, "local_features": extractor_identity(local.extractor)}


def _plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    from pydantic import BaseModel

    return {
        name: value.model_dump(mode="json") if isinstance(value, BaseModel) else value
        for name, value in parameters.items()
    }


def _keep_in_mlflow(file: Path, made: Mapping[str, Any], env: str | None, params: Mapping[str, Any]) -> str:
    """Add a certificate to the latest MLflow run of its data set; say so, or that there is none."""
    import mlflow

    from landmark_retrieval.commands.run_checks import configuration
    from landmark_retrieval.config_loader import tracking_uri
    from landmark_retrieval.io.tracking import why_unreachable

    config = configuration(env, None, params)
    uri = None if config is None else tracking_uri(config)
    if uri is not None:
        problem = why_unreachable(uri)
        if problem:
            return f", not kept in MLflow at {uri} ({problem})"
        mlflow.set_tracking_uri(uri)
    data_set = made["inputs"]["parameters"].get("data_set", {}).get("name", "")
    try:
        runs = mlflow.search_runs(
            search_all_experiments=True,
            filter_string=f"tags.data_set = '{data_set}'",
            order_by=["start_time DESC"],
            output_format="list",
        )
        parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
        if not parents:
            return ""
        mlflow.MlflowClient().log_artifact(parents[0].info.run_id, str(file))
    except mlflow.MlflowException as error:
        return f", not kept in MLflow ({' '.join(str(error).split())[:120]})"
    return f", kept with MLflow run '{parents[0].info.run_name}'"

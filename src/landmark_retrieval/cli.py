"""Commands that this project adds to `kedro`. Heavy imports stay inside the commands."""

from __future__ import annotations

import functools
import re
from typing import Any

import click

from landmark_retrieval.commands.certify import certify
from landmark_retrieval.commands.collection import collection
from landmark_retrieval.commands.convert_checkpoint import convert_checkpoint
from landmark_retrieval.commands.data_set import data_set
from landmark_retrieval.commands.egt import egt
from landmark_retrieval.commands.environments import check_environment
from landmark_retrieval.commands.errors import in_words, plain_errors
from landmark_retrieval.commands.evaluate import evaluate
from landmark_retrieval.commands.full_disk import full_disk, is_full_disk
from landmark_retrieval.commands.killed import killed_runs_marked
from landmark_retrieval.commands.params import params_option
from landmark_retrieval.commands.photos import check_photos
from landmark_retrieval.commands.run_checks import check_run, configuration
from landmark_retrieval.commands.search import search
from landmark_retrieval.commands.serve import serve
from landmark_retrieval.commands.status import status
from landmark_retrieval.commands.store import store
from landmark_retrieval.configuration import unknown_option
from landmark_retrieval.errors import LandmarkRetrievalError

EXPERIMENTS = (
    "http://127.0.0.1:5000/?workflowType=machine_learning#/experiments/1?workflowType=machine_learning"
)
"""Where `kedro mlflow ui` shows the runs; without the parameter MLflow opens in a mode that shows none."""


@click.group(name="landmark_retrieval")
def cli() -> None:
    """Commands of the landmark retrieval project."""


@cli.command()
@plain_errors
def ablation() -> None:
    """Print the latest ablation table, and where to look next."""
    from pathlib import Path

    table = Path("data/08_reporting/ablation.txt")
    if not table.exists():
        raise LandmarkRetrievalError(f"{table}: no ablation table yet; make it with `kedro run`")
    click.echo("\n" + table.read_text(encoding="utf-8"))
    click.echo("report with results: data/08_reporting/report.html")
    click.echo("the collection:      data/08_reporting/collection.html")
    click.echo("pipeline graph:      make viz")
    click.echo(f"compare experiments: make mlflow, then {EXPERIMENTS}")


def _parameter_problems(message: str) -> str:
    """Return Kedro's report of refused parameters as one line without its wrapping."""
    problems = message.removeprefix("Parameter validation failed:").strip().removeprefix("- ")
    problems = re.sub(r"Failed to instantiate \w+ for parameter '[^']+': ", "", problems)
    problems = re.sub(r"For further information visit \S+", "", problems)
    return "; ".join(" ".join(problem.split()) for problem in re.split(r"\n- (?=Parameter ')", problems))


def _reads_photos(options: dict[str, Any]) -> bool:
    """Tell whether a run with these options starts with the folder of photos."""
    named = {*options["pipelines"], *([options["pipeline"]] if options.get("pipeline") else [])}
    parts = any(
        options.get(name) for name in ("node_names", "from_nodes", "from_inputs", "namespaces", "tags")
    )
    reading = {"__default__", "features", "own_features", "own_descriptors", "own_descriptors_verified"}
    return not parts and (not named or bool(named & reading))


def _with_own_descriptors(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a run with the stages that take descriptors from elsewhere, where it has such."""
    if not options["params"].get("descriptors"):
        return options
    from landmark_retrieval.pipeline_registry import own_pipelines, whole_run

    whole = whole_run(options["params"])
    named = [*options["pipelines"], *([options["pipeline"]] if options.get("pipeline") else [])]
    stages = own_pipelines(named, whole.endswith("_verified")) or [whole]
    return {**options, "pipelines": stages, **({"pipeline": None} if "pipeline" in options else {})}


def _run_with_plain_errors() -> click.Command:
    """Return Kedro's own `run`, which prints what users are meant to read as one line."""
    from kedro.config import MissingConfigException
    from kedro.framework.cli.project import run
    from kedro.framework.project import pipelines
    from kedro.io.core import DatasetError
    from kedro.validation.exceptions import ParameterValidationError

    original = run.callback
    assert original is not None

    @functools.wraps(original)
    def callback(*args: Any, **kwargs: Any) -> Any:
        check_environment(kwargs["env"], kwargs["conf_source"])
        kwargs = _with_own_descriptors(kwargs)
        for name in kwargs["pipelines"]:
            if name not in pipelines:
                raise click.ClickException(unknown_option(name, sorted(pipelines), kind="pipeline"))
        config = configuration(kwargs["env"], kwargs["conf_source"], kwargs["params"])
        try:
            if config is not None:
                check_run(config, kwargs)
            if config is not None and _reads_photos(kwargs):
                check_photos(config)
            with killed_runs_marked():
                return original(*args, **kwargs)
        except ParameterValidationError as error:
            raise click.ClickException(_parameter_problems(str(error))) from error
        except Exception as error:
            if is_full_disk(error):
                raise click.ClickException(full_disk(error, kwargs["env"], kwargs["params"])) from error
            if isinstance(error, (LandmarkRetrievalError, MissingConfigException)):
                raise click.ClickException(in_words(error)) from error
            if isinstance(error, DatasetError):
                raise click.ClickException(" ".join(str(error.__cause__ or error).split())) from error
            raise

    options = [params_option if option.name == "params" else option for option in run.params]
    return click.Command("run", params=options, callback=callback, help=run.help, short_help=run.short_help)


run = _run_with_plain_errors()
"""What `kedro run`, `landmark-retrieval` and `python -m landmark_retrieval` execute."""

cli.add_command(run)
cli.add_command(egt)
cli.add_command(certify)
cli.add_command(evaluate)
cli.add_command(data_set)
cli.add_command(collection)
cli.add_command(search)
cli.add_command(serve)
cli.add_command(store)
cli.add_command(status)
cli.add_command(convert_checkpoint)

"""Run the project as `landmark-retrieval` or `python -m landmark_retrieval`, from any folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

import landmark_retrieval

PACKAGED = Path(landmark_retrieval.__file__).parent / "conf"
"""Configuration that comes with the package, for folders that have none of their own."""


@click.group()
@click.version_option(landmark_retrieval.__version__)
def main() -> None:
    """Find every photo of the same landmark.

    Works in any folder: what is computed lies in `data` below it, and where there is no folder `conf` the
    configuration that comes with the package is used.
    """


@main.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(arguments: tuple[str, ...]) -> Any:
    """Build an index: `landmark-retrieval run --env folder --params image_root=/my/photos`.

    Takes the options of `kedro run`.
    """
    os.environ.setdefault("KEDRO_LOGGING_CONFIG", str(conf_source() / "logging.yml"))
    from kedro.framework.cli.utils import find_run_command
    from kedro.framework.project import configure_project

    configure_project("landmark_retrieval")
    given = list(arguments)
    if not any(one == "--conf-source" or one.startswith("--conf-source=") for one in given):
        given += ["--conf-source", str(conf_source())]
    command: Any = find_run_command("landmark_retrieval")
    return command.main(given, prog_name="landmark-retrieval run", standalone_mode=not hasattr(sys, "ps1"))


def conf_source() -> Path:
    """Return the folder with the configuration: the working folder's own, else the package's."""
    own = Path("conf")
    return own if own.is_dir() or not PACKAGED.is_dir() else PACKAGED


def _add_commands() -> None:
    """Add what works on a finished index; the modules load what is heavy when they are asked."""
    from landmark_retrieval.commands.finished import search, serve

    main.add_command(search)
    main.add_command(serve)


_add_commands()

if __name__ == "__main__":
    main()

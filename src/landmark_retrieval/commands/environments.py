"""The configuration environments that `--env` may name."""

from __future__ import annotations

import os
from pathlib import Path

import click

from landmark_retrieval.configuration import unknown_option


def check_environment(env: str | None, conf_source: str | None = None) -> None:
    """Refuse an environment that has no folder of configuration.

    Args:
        env: as given on the command line; None for that of the environment variable KEDRO_ENV.
        conf_source: folder with the environments, or an archive, which is not looked into; None for the
            project's own.

    Raises:
        click.ClickException: names the environments that exist.
    """
    from kedro.framework.project import settings
    from kedro.utils import find_kedro_project

    name = env or os.environ.get("KEDRO_ENV")
    project = find_kedro_project(Path.cwd()) or Path.cwd()
    folder = Path(conf_source or project / settings.CONF_SOURCE)
    if not name or not folder.is_dir() or (folder / name).is_dir():
        return
    known = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != ".")
    raise click.ClickException(unknown_option(name, known, kind="environment"))

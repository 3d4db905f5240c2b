"""`kedro serve`: the service of the last run's index, and its page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from landmark_retrieval.commands.errors import plain_errors
from landmark_retrieval.commands.index import data_set_of, index_options
from landmark_retrieval.commands.service import serve_index, service_options


@click.command()
@index_options
@service_options
@plain_errors
def serve(env: str | None, params: dict[str, Any], **options: Any) -> None:
    """Serve the index of the last `kedro run`: a page on which photos are dropped, and an interface.

    Only this machine can open it unless another --host is given, which needs a --token-file. The interface is
    described at /docs.
    """
    serve_index(Path("data"), lambda: data_set_of(env, params), **options)

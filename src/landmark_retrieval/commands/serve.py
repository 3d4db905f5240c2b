"""`kedro serve`: a local web page on which one drops a photo and sees what is found."""

from __future__ import annotations

from typing import Any

import click

from landmark_retrieval.commands.errors import plain_errors
from landmark_retrieval.commands.index import index_options, open_index

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@click.command()
@index_options
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535))
@click.option(
    "--max-mib", default=16.0, show_default=True, type=click.FloatRange(0.1, 256), help="Largest photo, MiB."
)
@plain_errors
def serve(env: str | None, params: dict[str, Any], host: str, port: int, max_mib: float) -> None:
    """Serve a web page that searches the index of the last `kedro run` for a dropped photo.

    Only this machine can open it unless another --host is given; there is no log-in, so give one only
    where everyone who can reach it may search. POST /api/search answers the same as JSON.
    """
    import uvicorn

    from landmark_retrieval.serving.server import create_app

    searching, data_set = open_index(env, params)
    hosts = ("127.0.0.1", "localhost", "[::1]") if host in LOOPBACK else ("*",)
    app = create_app(searching, data_set, max_mib, hosts)
    click.echo(f"searching {data_set}: http://{f'[{host}]' if ':' in host else host}:{port} (Ctrl+C ends it)")
    uvicorn.run(app, host=host, port=port, log_level="warning", limit_concurrency=32)

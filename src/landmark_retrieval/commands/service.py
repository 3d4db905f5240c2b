"""What `kedro serve` and `landmark-retrieval serve` have in common: the options, and the service."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from landmark_retrieval.errors import LandmarkRetrievalError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def service_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the service to a command."""
    for option in reversed(
        [
            click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on."),
            click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535)),
            click.option(
                "--token-file",
                type=click.Path(exists=True, dir_okay=False),
                help="File with the token that requests must carry; needed beyond this machine.",
            ),
            click.option(
                "--max-mib",
                default=16.0,
                show_default=True,
                type=click.FloatRange(0.1, 256),
                help="Largest photo, MiB.",
            ),
            click.option(
                "--workers",
                default=0,
                show_default=True,
                type=click.IntRange(0, 256),
                help="Searches at once; 0 for one a core.",
            ),
            click.option(
                "--threads",
                default=1,
                show_default=True,
                type=click.IntRange(1, 256),
                help="Threads of each search; more where few ask at a time.",
            ),
            click.option(
                "--waiting",
                default=32,
                show_default=True,
                type=click.IntRange(0, 10_000),
                help="Requests that may wait; beyond it the answer is 429.",
            ),
        ]
    ):
        command = option(command)
    return command


def serve_index(
    root: Path,
    name_of: Callable[[], str],
    host: str,
    port: int,
    token_file: str | None,
    max_mib: float,
    workers: int,
    threads: int,
    waiting: int,
) -> None:
    """Serve an index until the process is told to end.

    Args:
        root: folder with the artifacts (`data`).
        name_of: gives the name of the data set; asked once the options are known to be allowed.
        host: address to listen on.
        port: to listen on.
        token_file: file with the token that requests must carry.
        max_mib: largest photo in MiB.
        workers: searches at once; 0 for one a core.
        threads: of each search.
        waiting: requests that may wait.

    Raises:
        LandmarkRetrievalError: there is no such index, the port is taken, or the service would be open to
            others without a token.
    """
    if host not in LOOPBACK and token_file is None:
        raise LandmarkRetrievalError(
            f"--host {host} lets other machines in: give a --token-file with the token that they must send"
        )
    name = name_of()
    import uvicorn

    from landmark_retrieval.retrieval.artifacts import RunFiles
    from landmark_retrieval.retrieval.library import Index
    from landmark_retrieval.serving.access import allowed_hosts, read_token
    from landmark_retrieval.serving.server import Options, create_app

    token = None if token_file is None else read_token(token_file)
    RunFiles(root, name)  # a name that does not exist is refused before anything is loaded
    failures: list[Exception] = []

    def failed(error: Exception) -> None:
        failures.append(error)
        server.should_exit = True

    choices = Options(max_mib, allowed_hosts(host, LOOPBACK), token, workers, waiting, threads)
    app = create_app(lambda: Index.open(root, name), choices, failed)
    config = uvicorn.Config(app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=10)
    server = uvicorn.Server(config)
    shown = f"[{host}]" if ":" in host else host
    click.echo(f"searching {name}: http://{shown}:{port} (Ctrl+C ends it)")
    try:
        server.run()
    except SystemExit:
        raise LandmarkRetrievalError(f"port {port} of {host} cannot be opened: another --port?") from None
    if failures:
        raise failures[0]

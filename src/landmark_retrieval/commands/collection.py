"""`kedro collection`: the page of the last collection that a run has read."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import click

from landmark_retrieval.commands.errors import plain_errors
from landmark_retrieval.errors import LandmarkRetrievalError

PAGE = "data/08_reporting/collection.html"


@click.group(name="collection")
def collection() -> None:
    """Look at what a collection holds."""


@collection.command(name="open")
@click.option("--print", "only_print", is_flag=True, help="Print the address only.")
@plain_errors
def open_page(only_print: bool) -> None:
    """Open the page of the last collection in a browser: groups, near-duplicates, every file."""
    page = Path(PAGE)
    if not page.is_file():
        raise LandmarkRetrievalError(f"{page}: no page yet; make it with `kedro run`")
    address = page.resolve().as_uri()
    click.echo(address)
    if not only_print:
        webbrowser.open(address)

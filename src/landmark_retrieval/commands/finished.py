"""`landmark-retrieval search` and `serve`: what works on a finished index without Kedro."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from landmark_retrieval.commands.errors import plain_errors
from landmark_retrieval.commands.service import serve_index, service_options

if TYPE_CHECKING:
    from landmark_retrieval.retrieval.answers import SearchResult


def place_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say which index."""
    name = click.option(
        "--name", help="Data set, as its folders in `data` are called; may be left out where there is one."
    )
    data = click.option(
        "--data",
        default="data",
        show_default=True,
        type=click.Path(file_okay=False),
        help="Folder with the artifacts of the run.",
    )
    return data(name(command))


@click.command()
@place_options
@service_options
@plain_errors
def serve(data: str, name: str | None, **options: Any) -> None:
    """Serve a finished index: a page on which photos are dropped, and an interface (described at /docs)."""
    serve_index(Path(data), lambda: name or only_name(data), **options)


@click.command()
@click.argument("photos", nargs=-1, required=True, metavar="PHOTO...", type=click.Path(dir_okay=False))
@place_options
@click.option("--results", default=10, show_default=True, type=click.IntRange(1, 100))
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@plain_errors
def search(photos: tuple[str, ...], data: str, name: str | None, results: int, as_json: bool) -> None:
    """Find what each PHOTO shows in a finished index."""
    from landmark_retrieval.images import UnreadableImageError
    from landmark_retrieval.retrieval.library import Index

    index = Index.open(data, name or only_name(data))
    answers, unreadable = {}, []
    for photo in photos:
        try:
            found = index.search(photo, results)
        except UnreadableImageError as error:
            answers[photo] = {"error": str(error)}
            unreadable.append(f"{photo} ({error})")
            continue
        answers[photo] = dataclasses.asdict(found)
        if not as_json:
            click.echo(in_words(photo, found))
    if as_json:
        click.echo(json.dumps(answers, indent=1, default=str))
    if unreadable:
        raise click.ClickException(f"{len(unreadable)} of {len(photos)} photos: {', '.join(unreadable)}")


def in_words(photo: str, found: SearchResult) -> str:
    """Return an answer as text, a line a result."""
    verdict = (
        f"found with probability {found.probability:.3f}" if found.found else "nothing of this place here"
    )
    landmark = f", {found.landmark.name}" if found.landmark else ""
    lines = [f"{photo}: {verdict}{landmark}, {found.seconds:.2f} s"]
    for rank, match in enumerate(found.results, start=1):
        lines.append(f"{rank:4}  {match.id}  P {match.probability:.3f}  {match.why()}")
    return "\n".join(lines)


def only_name(data: str) -> str:
    """Return the name of the only index of a folder.

    Raises:
        LandmarkRetrievalError: there is none, or there are several.
    """
    from landmark_retrieval.errors import LandmarkRetrievalError
    from landmark_retrieval.retrieval.artifacts import MODELS, OPTIONS

    known = sorted(file.parent.name for file in Path(data, MODELS).glob(f"*/{OPTIONS}.json"))
    if len(known) == 1:
        return known[0]
    if not known:
        raise LandmarkRetrievalError(f"{data}: no finished run; make one with `landmark-retrieval run`")
    raise LandmarkRetrievalError(f"{data}: several data sets, name one of them: --name {' or '.join(known)}")

"""`kedro search`: finds photos in an index that is already built."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from landmark_retrieval.commands.errors import plain_errors
from landmark_retrieval.commands.index import index_options, open_descriptors, open_index
from landmark_retrieval.commands.output import check_output, force_option, writing

if TYPE_CHECKING:
    from landmark_retrieval.retrieval import Found, Result

PAGE = "data/08_reporting/search.html"
MARK = '<meta name="generator" content="landmark_retrieval search">'
"""In the head of every page that `kedro search` writes."""


@click.command()
@click.argument("photos", nargs=-1, metavar="PHOTO...", type=click.Path(dir_okay=False))
@click.option(
    "--descriptor",
    metavar="FILE",
    help="Search by the rows of a file of descriptors; of several files (A:B) where the index is.",
)
@click.option("--id", "ids", multiple=True, metavar="IMAGE_ID", help="Search by an image of the table.")
@index_options
@click.option(
    "--results", default=10, show_default=True, type=click.IntRange(1, 100), help="Results a photo."
)
@click.option(
    "--variant", default=None, help="Whose ranking is shown, one of the ablation's; the last one by default."
)
@click.option(
    "--page",
    default=PAGE,
    show_default=True,
    type=click.Path(dir_okay=False, writable=True),
    help="Page with pictures to write.",
)
@force_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")
@plain_errors
def search(
    photos: tuple[str, ...],
    descriptor: str | None,
    ids: tuple[str, ...],
    env: str | None,
    params: dict[str, Any],
    results: int,
    variant: str | None,
    page: str,
    force: bool,
    as_json: bool,
) -> None:
    """Find what each PHOTO shows in the index of the last `kedro run`.

    Nothing is built anew: the photo goes through the steps of a query. Each result says why it was found: its
    similarity, the inliers of its match with the photo, and the trusted path that led to it. Give the --env
    and --params of the run. In place of photos give descriptors (--descriptor) or images of the table (--id);
    then no page is written.
    """
    from landmark_retrieval.retrieval.variants import variant_of

    if variant is not None:
        variant_of(variant)  # a misspelt name is refused before an index is opened
    if bool(photos) == bool(descriptor or ids):
        raise click.UsageError("give photos, or else --descriptor FILE or --id IMAGE_ID")
    if not photos:
        _print(*_search_descriptors(descriptor, ids, env, params, results, variant), as_json)
        return
    file = check_output(page, photos, _is_page, force, PAGE)
    searching, _ = open_index(env, params)
    from landmark_retrieval.images import UnreadableImageError, load_image
    from landmark_retrieval.serving.answers import as_json as plain
    from landmark_retrieval.serving.page import render_search

    known = searching.index.ids
    pages: list[tuple[str, str, Found | None, str]] = []
    answers = {}
    for photo in photos:
        try:
            load_image(photo, at_least=1)  # describing an unreadable photo would name it in the log, too
            found = searching.find(photo, results, variant)
        except UnreadableImageError as error:
            pages.append((Path(photo).name, photo, None, str(error)))
            answers[photo] = {"error": str(error)}
            continue
        pages.append((Path(photo).name, photo, found, ""))
        answers[photo] = plain(found, known)
        if not as_json:
            click.echo(format_found(photo, found, known))
    if as_json:
        click.echo(json.dumps(answers, indent=1))
    with writing(file) as temporary:
        temporary.write_text(render_search(pages, searching.index), encoding="utf-8")
    click.echo(f"page with pictures: {page}", err=as_json)
    unreadable = [f"{photo} ({problem})" for _, photo, found, problem in pages if found is None]
    if unreadable:
        raise click.ClickException(
            f"{len(unreadable)} of {len(photos)} photos could not be read: {', '.join(unreadable)}"
        )


def _is_page(file: Path) -> bool:
    """Tell whether a file is a page of an earlier search."""
    with file.open("rb") as opened:
        return MARK.encode() in opened.read(1024)


def _search_descriptors(
    descriptor: str | None,
    ids: tuple[str, ...],
    env: str | None,
    params: dict[str, Any],
    results: int,
    variant: str | None,
) -> tuple[dict[str, Found], list[str]]:
    """Return what is found by each row of files and by each image of the table, and all image ids."""
    from landmark_retrieval.descriptors.files import read_descriptors

    searching, steps, blend = open_descriptors(env, params)
    found = {name: searching.find_known(name, results, variant) for name in ids}
    if descriptor is not None:
        files = [read_descriptors(file) for file in descriptor.split(os.pathsep)]
        names, parts = files[0].ids, [file.matrix for file in files]
        rows = steps.apply(parts, blend) if steps is not None else parts[0]
        for number, row in enumerate(rows):
            name = f"row {number}" if names is None else str(names[number])
            found[name] = searching.find(row, results, variant)
    return found, searching.index.ids


def _print(found: Mapping[str, Found], ids: list[str], as_json: bool) -> None:
    from landmark_retrieval.serving.answers import as_json as plain

    if as_json:
        click.echo(json.dumps({name: plain(one, ids) for name, one in found.items()}, indent=1))
    else:
        for name, one in found.items():
            click.echo(format_found(name, one, ids))


def format_found(photo: str, found: Found, ids: list[str]) -> str:
    """Return the results of one photo or descriptor as text, a line each.

    Args:
        photo: its name.
        found: what was found.
        ids: image id of every table row.
    """
    voted = f", label voted by train images: {found.label}" if found.label else ""
    lines = [f"{photo}: {len(found.results)} results in {found.seconds:.2f} s{voted}"]
    width = max((len(result.image_id) for result in found.results), default=0)
    for rank, result in enumerate(found.results, start=1):
        landmark = f"  {result.landmark}" if result.landmark else ""
        lines.append(f"{rank:4}  {result.image_id:{width}}{landmark}  {reason(result, ids)}")
    return "\n".join(lines)


def reason(result: Result, ids: list[str]) -> str:
    """Return why a result was found, in a few words.

    Args:
        result: one of what was found.
        ids: image id of every table row, to name the images of its path.
    """
    parts = []
    if result.similarity is not None:
        parts.append(f"similarity {result.similarity:.2f}")
    if result.inliers is not None:
        parts.append(f"{result.inliers} inliers" + ("" if result.verified else " (too few)"))
        if result.turn:
            parts.append(f"photo turned by {result.turn}°")
        proposed = ", ".join(f"{name} #{place}" for name, place in result.proposed_by.items())
        parts.append(f"proposed by {proposed}")
    if len(result.path) > 1 or any(step.label_bridge for step in result.path):
        chain = "photo"
        for step in result.path:
            if step.label_bridge:
                first, last = step.similarities[0], step.similarities[-1]
                train = " = ".join(ids[row] for row in step.train_rows)
                chain += f" -({first:.2f})-> [{step.label}: {train}] -({last:.2f})-> {ids[step.row]}"
            else:
                chain += f" -({'P ' if step.verified else ''}{step.weight:.2f})-> {ids[step.row]}"
        parts.append(f"path {chain}")
    return ", ".join(parts)

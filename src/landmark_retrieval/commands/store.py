"""`kedro store`: what the store holds, and the only command that deletes from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from landmark_retrieval.commands.errors import plain_errors
from landmark_retrieval.commands.index import index_options, open_catalog
from landmark_retrieval.errors import LandmarkRetrievalError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from landmark_retrieval.runtime.store import Store

MIB = 2**20
DATA = Path("data")


@click.group()
def store() -> None:
    """Say what the store of photos and pairs holds, and delete from it."""


@store.command()
@index_options
@plain_errors
def size(env: str | None, params: dict[str, Any]) -> None:
    """List the namespaces: photos or pairs, bytes, when a run last used them, and their parameters."""
    from landmark_retrieval.runtime.earlier_shards import earlier_shards
    from landmark_retrieval.runtime.store_contents import contents, describe

    opened = open_store(env, params)
    found = contents(opened)
    for one in found:
        used = f"{datetime.fromtimestamp(one.used):%Y-%m-%d %H:%M}" if one.used else "never"
        useless = f", {one.useless / MIB:.1f} MiB of no use" if one.useless else ""
        click.echo(
            f"{one.name}  {one.results} results, {one.size / MIB:.1f} MiB{useless}, last used {used}"
            f"{', in use now' if one.busy else ''}\n    {describe(one.parameters)}"
        )
    total = sum(one.size for one in found)
    click.echo(f"{opened.folder.url}: {total / MIB:.1f} MiB in {len(found)} namespaces")
    for folder, taken in earlier_shards(DATA).items():
        click.echo(f"{folder}: {taken / MIB:.1f} MiB of an earlier version, of no use (`kedro store prune`)")


@store.command()
@index_options
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@click.option(
    "--keep-last", type=click.IntRange(min=0), help="Keep so many namespaces of each kind, those used last."
)
@click.option(
    "--older-than",
    type=click.FloatRange(min=0),
    help="Delete namespaces unused for so many days.",
    metavar="DAYS",
)
@click.option(
    "--unused-by",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False),
    metavar="TABLE",
    help="Keep only the photos of these image tables (CSV with `path`) and their pairs; can be repeated.",
)
@plain_errors
def prune(
    env: str | None,
    params: dict[str, Any],
    dry_run: bool,
    keep_last: int | None,
    older_than: float | None,
    unused_by: Sequence[str],
) -> None:
    """Delete what is of no use, and what one of the options gives up.

    Of no use are damaged shards, temporary files, and shards of earlier versions. Namespaces in which a run
    is computing are left alone.
    """
    from landmark_retrieval.runtime.earlier_shards import delete_earlier_shards, earlier_shards
    from landmark_retrieval.runtime.store_contents import prune as prune_store

    if sum(option is not None and option != () for option in (keep_last, older_than, unused_by)) > 1:
        raise LandmarkRetrievalError("give one of --keep-last, --older-than and --unused-by at a time")
    used = used_by(unused_by) if unused_by else None
    pruned = prune_store(open_store(env, params), keep_last, older_than, used, dry_run)
    verb = "would delete" if dry_run else "deleted"
    for one in pruned:
        what = f"{one.results} results" if one.whole or one.results else "what is of no use"
        click.echo(f"{one.name}: {verb} {'all, ' if one.whole else ''}{what}, {one.size / MIB:.1f} MiB")
    earlier = earlier_shards(DATA)
    for folder, taken in earlier.items():
        click.echo(f"{folder}: {verb} shards of an earlier version, {taken / MIB:.1f} MiB")
    if not dry_run:
        delete_earlier_shards(DATA)
    total = sum(one.size for one in pruned) + sum(earlier.values())
    click.echo(f"{verb} {total / MIB:.1f} MiB in all")


def open_store(env: str | None, params: dict[str, Any]) -> Store:
    """Return the store that `kedro run` uses with the same options."""
    from landmark_retrieval.runtime.store import Store

    loaded = open_catalog(env, params).load("store")
    assert isinstance(loaded, Store)
    return loaded


def used_by(tables: Sequence[str]) -> Callable[[str, NDArray[np.bytes_]], list[bool]]:
    """Return a function of a kind and keys that says which of them photos of some tables need.

    Raises:
        LandmarkRetrievalError: a table has no column `path`, or a photo of it cannot be read: then nobody
            knows what is needed.
    """
    import pandas as pd

    from landmark_retrieval.images import image_sources, photo_keys

    used: set[bytes] = set()
    for table in tables:
        rows = pd.read_csv(table, dtype=str, keep_default_na=False, na_values=[""])
        if "path" not in rows:
            raise LandmarkRetrievalError(f"{table}: has no column 'path'; give an image table")
        keys = photo_keys(image_sources(rows))
        missing = [str(path) for path, key in zip(rows["path"], keys, strict=True) if not key]
        if missing:
            raise LandmarkRetrievalError(
                f"{table}: {len(missing)} of its photos cannot be read, the first is {missing[0]}; nothing "
                "was deleted (paths count from the folder of the project)"
            )
        used |= {key.encode() for key in keys.tolist()}

    def needed(kind: str, keys: NDArray[np.bytes_]) -> list[bool]:
        if not kind.startswith(("pooled", "descriptors", "local_features", "pairs")):
            return [True] * len(keys)
        return [all(part.split(b"+")[0] in used for part in key.split(b" ")) for key in keys.tolist()]

    return needed

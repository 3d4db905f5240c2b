"""`kedro data-set`: what of a public data set is there, and getting what is missing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from landmark_retrieval.commands.errors import plain_errors

NAMES = click.Choice(["gldv2", "roxford5k", "rparis6k", "revisitop1m"])
DATA_ROOT = click.option("--data-root", required=True, type=click.Path(file_okay=False), help="Its folder.")


@click.group(name="data-set")
def data_set() -> None:
    """Check and download the public data sets."""


@data_set.command()
@click.argument("name", type=NAMES)
@DATA_ROOT
@click.option("--all", "everything", is_flag=True, help="Look for every image instead of a sample.")
@plain_errors
def check(name: str, data_root: str, everything: bool) -> None:
    """Say what of a data set is there, what is missing, and where it is published.

    The exit status is 1 when something is missing that a run needs.
    """
    from landmark_retrieval.collection.inventory import format_inventory, inventory, needed

    items = inventory(name, data_root, everything)
    click.echo(format_inventory(name, data_root, items))
    if needed(items):
        raise click.exceptions.Exit(1)


@data_set.command()
@click.argument("name", type=NAMES)
@DATA_ROOT
@click.option("--part", "parts", multiple=True, help="Only this part (repeat for several); all without it.")
@click.option("--mirror", help="Address that stands in for the publisher's.")
@click.option("--jobs", default=4, show_default=True, type=click.IntRange(1, 32), help="Transfers at a time.")
@click.option("--keep", is_flag=True, help="Keep archives after unpacking them.")
@plain_errors
def download(
    name: str, data_root: str, parts: tuple[str, ...], mirror: str | None, jobs: int, keep: bool
) -> None:
    """Download what is missing of a data set, and unpack it.

    May be interrupted and run again at any time: finished files are left alone, the others go on where they
    stopped. Files with a published MD5 sum are checked.
    """
    from tqdm import tqdm

    from landmark_retrieval.collection.download import fetch, is_done
    from landmark_retrieval.collection.sources import sources
    from landmark_retrieval.configuration import unknown_option
    from landmark_retrieval.errors import LandmarkRetrievalError

    published = sources(name, mirror)
    known = list(dict.fromkeys(source.part for source in published))
    for part in parts:
        if part not in known:
            raise LandmarkRetrievalError(unknown_option(part, known, kind="part"))
    wanted = [source for source in published if not parts or source.part in parts]
    root = Path(data_root).expanduser()
    missing = [source for source in wanted if not is_done(root, source)]
    click.echo(f"{name}: {len(wanted) - len(missing)} of {len(wanted)} files are done, {len(missing)} to get")
    if missing:
        with (
            tqdm(unit="B", unit_scale=True, desc=name) as progress,
            ThreadPoolExecutor(min(jobs, len(missing))) as pool,
        ):
            futures = [pool.submit(fetch, root, source, progress.update, keep=keep) for source in missing]
            try:
                for future in futures:
                    future.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    click.echo(f"{name}: complete in {root}; see `kedro data-set check {name} --data-root {root}`")

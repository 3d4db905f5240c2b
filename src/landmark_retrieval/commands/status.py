"""`kedro status`: which artifacts are up to date, which are not, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from landmark_retrieval.commands.errors import plain_errors
from landmark_retrieval.commands.index import index_options

if TYPE_CHECKING:
    from landmark_retrieval.catalog import ChainCatalog
    from landmark_retrieval.io.chain import Fault

UP_TO_DATE = "up to date"


@click.command()
@index_options
@click.option("--all", "everything", is_flag=True, help="List what is up to date, too.")
@plain_errors
def status(env: str | None, params: dict[str, Any], everything: bool) -> None:
    """Say of every artifact whether it is up to date, stale, damaged or missing, and why.

    An artifact is stale when it was made of something else than stands beside it now. Ends with status 1
    where something is not up to date.
    """
    from landmark_retrieval.io.remedies import command

    catalog = open_catalog(env, params)
    states = state_of(catalog)
    for name, fault in states.items():
        if fault is not None or everything:
            click.echo(f"{fault.kind if fault else UP_TO_DATE:<11} {name}{f': {fault.why}' if fault else ''}")
    faults = [fault for fault in states.values() if fault is not None]
    click.echo(f"{len(states) - len(faults)} of {len(states)} artifacts are up to date")
    if faults:
        click.echo(f"make the others with {command(faults, catalog.chain)}")
        raise click.exceptions.Exit(1)


def open_catalog(env: str | None, params: dict[str, Any]) -> ChainCatalog:
    """Return the catalog that `kedro run` has with the same options."""
    from pathlib import Path

    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    from landmark_retrieval.catalog import ChainCatalog
    from landmark_retrieval.commands.environments import check_environment

    bootstrap_project(Path.cwd())
    check_environment(env)
    with KedroSession.create(Path.cwd(), env=env, runtime_params=params) as session:
        catalog = session.load_context().catalog  # type: ignore[attr-defined]
    assert isinstance(catalog, ChainCatalog)
    return catalog


def state_of(catalog: ChainCatalog) -> dict[str, Fault | None]:
    """Return the state of each artifact of a whole run, and of those of other pipelines that are there.

    Args:
        catalog: of the artifacts.

    Returns:
        By name, in the order in which they are made: what is wrong with it, None for nothing.
    """
    from kedro.framework.project import pipelines

    whole = [name for node in pipelines["__default__"].nodes for name in node.outputs]
    others = [name for pipeline in pipelines.values() for node in pipeline.nodes for name in node.outputs]
    names = [name for name in dict.fromkeys([*whole, *others]) if catalog.chain.place(name) is not None]
    own = catalog.chain.record("blend.descriptors")
    if own is not None and own.pipeline == "own_features":
        whole = [name for node in pipelines["own_descriptors"].nodes for name in node.outputs]
    there = [name for name in names if name in whole or catalog.chain.record(name) is not None]
    faults = {fault.artifact: fault for fault in catalog.chain.faults(there)}
    return {name: faults.get(name) for name in there}

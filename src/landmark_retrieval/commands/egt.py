"""`kedro egt`: the traversal of a graph in the text format of the EGT authors' program."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import click

from landmark_retrieval.commands.errors import plain_errors
from landmark_retrieval.commands.output import check_output, force_option, writing


@click.command()
@click.argument("graph", type=click.Path(exists=True, dir_okay=False))
@click.option(
    "--num-queries", required=True, type=click.IntRange(min=1), help="Leading lines that are queries."
)
@click.option("--t", "threshold", required=True, type=float, help="Threshold t; inf and -inf are allowed.")
@click.option(
    "--p", "results", default=100, show_default=True, type=click.IntRange(min=1), help="Results a query."
)
@click.option(
    "--output", required=True, type=click.Path(dir_okay=False, writable=True), help="File to write."
)
@click.option(
    "--k", "neighbors", type=click.IntRange(min=1), help="Use the first k neighbours of a line only."
)
@click.option(
    "--threads", default=0, type=click.IntRange(min=0), help="Threads; 0 (the default) uses all cores."
)
@click.option(
    "--symmetrize/--no-symmetrize",
    default=True,
    show_default=True,
    help="Make the index part undirected: both directions, the larger weight.",
)
@force_option
@plain_errors
def egt(
    graph: str,
    num_queries: int,
    threshold: float,
    results: int,
    output: str,
    neighbors: int | None,
    threads: int,
    symmetrize: bool,
    force: bool,
) -> None:
    """Rank by explore-exploit graph traversal a k-NN GRAPH in text form.

    Each line of GRAPH is `id,neighbour weight neighbour weight ...`, queries first; each line of the output
    is `query,id id ...`. The format is that of the EGT authors' program. A ranking of the same queries is
    replaced, any other file only with --force.
    """
    from time import perf_counter

    from landmark_retrieval.graph.egt import EgtConfig, prepare
    from landmark_retrieval.graph.graph import symmetrize_lists
    from landmark_retrieval.graph.text_format import read_text_graph, write_text_ranking

    config = EgtConfig(t=threshold, p=results, threads=threads)
    file = check_output(output, [graph], lambda there: _is_ranking(there, Path(graph), num_queries), force)
    start = perf_counter()
    lists = read_text_graph(graph, num_queries, neighbors, threads)
    loaded = perf_counter()
    edges = len(lists.queries.indices) + len(lists.index.indices)
    click.echo(f"load: {loaded - start:.2f} s ({len(lists.index_ids)} index vertices, {edges} edges)")
    if lists.dropped:
        click.echo(f"left out: {lists.dropped} edges that lead to queries")
    index = symmetrize_lists(lists.index, threads) if symmetrize else lists.index
    if index is not lists.index:
        click.echo(f"symmetrize: {perf_counter() - loaded:.2f} s ({len(index.indices)} index edges)")
    run = prepare(lists.queries, index, config)
    start = perf_counter()
    traversal = run()
    seconds = perf_counter() - start
    click.echo(f"traverse: {1000 * seconds / num_queries:.4f} ms a query ({num_queries} queries)")
    with writing(file) as temporary:
        write_text_ranking(temporary, lists.query_ids, lists.index_ids, traversal.ranking)


def _is_ranking(file: Path, graph: Path, num_queries: int) -> bool:
    """Tell whether a file has a line for each of a graph's queries, in their order, and no others."""
    with file.open("rb") as ours, graph.open("rb") as theirs:
        wanted = list(islice(_ids(theirs), num_queries))
        return list(islice(_ids(ours), num_queries + 1)) == wanted


def _ids(file: BinaryIO) -> Iterator[bytes]:
    """Yield what stands before the comma in every line that is not blank."""
    for number, line in enumerate(file):
        text = line.removeprefix(BOM_UTF8) if number == 0 else line
        if text.strip():
            yield text.partition(b",")[0].strip()

"""Graphs and rankings in the text format of the EGT authors' program.

A graph has one line a vertex, `id,neighbour weight neighbour weight ...`, queries first; ids are arbitrary
strings without blanks or commas. A ranking has one line a query, `id,id id ...`. The file is read through a
memory map by compiled loops: nothing of its size is copied but the edges themselves.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.graph.graph import CsrGraph
from landmark_retrieval.graph.text_kernel import (
    NO_COMMA,
    NO_ID,
    ODD_TOKENS,
    POWERS,
    build_table,
    count_lines,
    parse_edges,
    scan_lines,
)
from landmark_retrieval.runtime.compiled import frozen, run_chunks, thread_count

LINES_AT_A_TIME = 4096
"""Lines that a thread takes at a time."""

UNDECODED = "surrogateescape"
"""How bytes that are not UTF-8 are kept, so that ids of any encoding survive reading and writing."""

MESSAGES = {
    NO_COMMA: "has no comma after the id; expected 'id,neighbour weight neighbour weight ...'",
    NO_ID: "has no id before the comma; expected 'id,neighbour weight neighbour weight ...'",
    ODD_TOKENS: "has an odd number of entries after the comma; every neighbour needs a weight",
}


@dataclass(frozen=True, eq=False)
class TextGraph:
    """A graph that was read from text.

    Attributes:
        query_ids: of the q leading lines.
        index_ids: of the n other lines.
        queries: lists of the queries: index rows and float64 weights as stored.
        index: lists of the index vertices, as stored.
        dropped: number of edges that lead to a query and were left out (their neighbour is -1).
    """

    query_ids: list[str]
    index_ids: list[str]
    queries: CsrGraph
    index: CsrGraph
    dropped: int


class _Lines(NamedTuple):
    """Of every line that is not blank: bounds of its parts, its number from 1, and its number of entries."""

    id_start: NDArray[np.int64]
    id_end: NDArray[np.int64]
    entries_start: NDArray[np.int64]
    end: NDArray[np.int64]
    number: NDArray[np.int64]
    entries: NDArray[np.int64]


class _Ids(NamedTuple):
    """Ids of all lines, copied together, and the hash table that finds them."""

    names: NDArray[np.uint8]
    ptr: NDArray[np.int64]
    table: NDArray[np.uint64]

    def decoded(self) -> list[str]:
        names, ptr = self.names.tobytes(), self.ptr.tolist()
        return [names[a:b].decode(errors=UNDECODED) for a, b in pairwise(ptr)]


def read_text_graph(
    path: str | Path, num_queries: int, neighbors: int | None = None, threads: int = 0
) -> TextGraph:
    """Read a graph.

    Args:
        path: of the text file; blank lines are skipped.
        num_queries: number of leading lines that are queries.
        neighbors: use the first so many neighbours of each line, all when None.
        threads: most threads to use, 0 for all.

    Raises:
        LandmarkRetrievalError: naming file and line, for a line without comma or id, an odd number of
            entries, an id of two lines, a neighbour without a line of its own, a weight that is not a number,
            or fewer lines than queries.
    """
    path = Path(path)
    data = _open(path)
    lines = _find_lines(path, data)
    count = len(lines.number)
    if count <= num_queries:
        raise LandmarkRetrievalError(
            f"{path}: has {count} lines, which is too few for {num_queries} queries and an index; "
            "check the number of queries"
        )
    ids = _enter_ids(path, data, lines)
    degree = lines.entries // 2 if neighbors is None else np.minimum(lines.entries // 2, neighbors)
    indptr = np.append(0, np.cumsum(degree))
    indices, weights, dropped = _read_edges(path, data, lines, ids, indptr, num_queries, threads)
    all_ids = ids.decoded()
    middle = int(indptr[num_queries])
    return TextGraph(
        query_ids=all_ids[:num_queries],
        index_ids=all_ids[num_queries:],
        queries=CsrGraph(indptr[: num_queries + 1], indices[:middle], weights[:middle]),
        index=CsrGraph(indptr[num_queries:] - middle, indices[middle:], weights[middle:]),
        dropped=dropped,
    )


def write_text_ranking(
    path: str | Path, query_ids: list[str], index_ids: list[str], ranking: NDArray[np.int32]
) -> None:
    """Write a ranking.

    Args:
        path: of the text file.
        query_ids: of the q queries.
        index_ids: of the n index images.
        ranking: int32 `[q, p]` index rows, -1 padded.

    Raises:
        LandmarkRetrievalError: when the file cannot be written.
    """
    try:
        with Path(path).open("w", newline="\n", encoding="utf-8", errors=UNDECODED) as file:
            for name, row in zip(query_ids, ranking, strict=True):
                file.write(f"{name},{' '.join([index_ids[i] for i in row[row >= 0].tolist()])}\n")
    except OSError as error:
        raise LandmarkRetrievalError(f"{path}: cannot be written: {error.strerror}") from error


def _open(path: Path) -> NDArray[np.uint8]:
    """Map a file into memory."""
    try:
        if path.stat().st_size == 0:
            raise LandmarkRetrievalError(f"{path}: is empty; expected one line a vertex, queries first")
        return frozen(np.memmap(path, np.uint8, "r"))
    except OSError as error:
        raise LandmarkRetrievalError(f"{path}: cannot be read: {error.strerror}") from error


def _fail(path: Path, line: int, message: str) -> NoReturn:
    raise LandmarkRetrievalError(f"{path}: line {line} {message}")


def _find_lines(path: Path, data: NDArray[np.uint8]) -> _Lines:
    *parts, code = scan_lines(data, count_lines(data))
    lines = _Lines(*parts)
    if code:
        _fail(path, lines.number[-1], MESSAGES[code])
    return lines


def _enter_ids(path: Path, data: NDArray[np.uint8], lines: _Lines) -> _Ids:
    ptr = np.append(0, np.cumsum(lines.id_end - lines.id_start))
    names, table, first, second = build_table(data, lines.id_start, ptr)
    if first >= 0:
        name = names[ptr[first] : ptr[first + 1]].tobytes().decode(errors=UNDECODED)
        earlier, line = lines.number[first], lines.number[second]
        _fail(path, line, f"has the id '{name}' of line {earlier}; ids must differ")
    return _Ids(names, ptr, table)


def _read_edges(
    path: Path,
    data: NDArray[np.uint8],
    lines: _Lines,
    ids: _Ids,
    indptr: NDArray[np.int64],
    num_queries: int,
    threads: int,
) -> tuple[NDArray[np.int32], NDArray[np.float64], int]:
    """Return the index row and the weight of every edge, and how many edges lead to queries."""
    indices = np.empty(indptr[-1], np.int32)
    weights = np.empty(indptr[-1], np.float64)

    def parse(_: None, start: int, stop: int) -> Any:
        return parse_edges(
            data, lines.entries_start, lines.end, indptr, ids.names, ids.ptr, ids.table, num_queries,
            POWERS, indices, weights, start, stop,
        )  # fmt: skip

    parsed = run_chunks(len(lines.number), LINES_AT_A_TIME, thread_count(threads), lambda: None, parse)
    for line, token_start, token_end, _ in parsed:
        if line >= 0:
            token = data[token_start:token_end].tobytes().decode(errors=UNDECODED)
            _fail(path, lines.number[line], f"names the neighbour '{token}', which has no line of its own")
    for edge in np.flatnonzero(np.isnan(weights)):
        line = int(np.searchsorted(indptr, edge, side="right")) - 1
        tokens = re.findall(rb"[^\x00-\x20]+", data[lines.entries_start[line] : lines.end[line]].tobytes())
        weights[edge] = _slow_number(path, int(lines.number[line]), tokens[2 * (edge - indptr[line]) + 1])
    return indices, weights, sum(chunk[3] for chunk in parsed)


def _slow_number(path: Path, line: int, token: bytes) -> float:
    """Read a number that the compiled loop left alone: very long, very small or large, or none at all."""
    try:
        value = float(token)
    except ValueError:
        value = np.nan
    if np.isnan(value):
        _fail(path, line, f"has the weight '{token.decode(errors=UNDECODED)}', which is not a number")
    return value

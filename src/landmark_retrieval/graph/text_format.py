"""Graphs and rankings in the text format of the EGT authors' program.

A graph has one line a vertex, `id,neighbour weight neighbour weight ...`, queries first; ids are arbitrary
strings without blanks or commas. A ranking has one line a query, `id,id id ...`.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.graph.graph import CsrGraph
from landmark_retrieval.runtime.threads import thread_count

BLANKS = bytes(range(33))
"""What separates entries."""

BLOCK = 1 << 25
"""Bytes of text that a thread reads at a time."""

UNDECODED = "surrogateescape"
"""How bytes that are not UTF-8 are kept, so that ids of any encoding survive reading and writing."""

EXPECTED = "expected 'id,neighbour weight neighbour weight ...'"


@dataclass(frozen=True, eq=False)
class TextGraph:
    """A graph that was read from text.

    Attributes:
        query_ids: query ids of the q leading lines.
        index_ids: index ids of the n other lines.
        queries: lists of the queries: index rows and float64 weights as stored.
        index: lists of the index vertices, as stored.
        dropped: number of edges that lead to a query and were left out (their neighbour is -1).
    """

    query_ids: list[str]
    index_ids: list[str]
    queries: CsrGraph
    index: CsrGraph
    dropped: int


class _Block(NamedTuple):
    """Consecutive lines of the file: the bytes that they take, and the number of the first line."""

    start: int
    stop: int
    number: int


class _Edges(NamedTuple):
    """Number of edges of each line, and row and weight of each edge."""

    degree: NDArray[np.int64]
    rows: NDArray[np.int32]
    weights: NDArray[np.float64]


def read_text_graph(
    path: str | Path, num_queries: int, neighbors: int | None = None, threads: int = 0
) -> TextGraph:
    """Read a graph.

    Args:
        path: path of the text file; blank lines are skipped.
        num_queries: number of leading lines that are queries.
        neighbors: use the first so many neighbours of each line, all when None.
        threads: most threads to use, 0 for all.

    Raises:
        LandmarkRetrievalError: naming file and line, for a line without comma or id, an odd number of
            entries, an id of two lines, a neighbour without a line of its own, a weight that is not a number,
            or fewer lines than queries.
    """
    path = Path(path)
    try:
        ids, blocks = _read_ids(path, num_queries)
        known = pa.array(ids, pa.binary())
        with ThreadPoolExecutor(thread_count(threads)) as pool:
            parts = list(pool.map(lambda block: _read_edges(path, block, known, neighbors), blocks))
    except OSError as error:
        raise LandmarkRetrievalError(f"{path}: cannot be read: {error.strerror}") from error
    edges = _Edges(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
    indices = np.maximum(edges.rows - num_queries, -1, dtype=np.int32)
    indptr = np.append(0, np.cumsum(edges.degree))
    middle = int(indptr[num_queries])
    names = [name.decode(errors=UNDECODED) for name in ids]
    return TextGraph(
        query_ids=names[:num_queries],
        index_ids=names[num_queries:],
        queries=CsrGraph(indptr[: num_queries + 1], indices[:middle], edges.weights[:middle]),
        index=CsrGraph(indptr[num_queries:] - middle, indices[middle:], edges.weights[middle:]),
        dropped=int(np.count_nonzero(indices < 0)),
    )


def write_text_ranking(
    path: str | Path, query_ids: list[str], index_ids: list[str], ranking: NDArray[np.int32]
) -> None:
    """Write a ranking.

    Args:
        path: path of the text file.
        query_ids: query ids of the q queries.
        index_ids: index ids of the n index images.
        ranking: int32 `[q, p]` index rows, -1 padded.

    Raises:
        OSError: the file cannot be written.
    """
    with Path(path).open("w", newline="\n", encoding="utf-8", errors=UNDECODED) as file:
        for name, row in zip(query_ids, ranking, strict=True):
            file.write(f"{name},{' '.join([index_ids[i] for i in row[row >= 0].tolist()])}\n")


def _fail(path: Path, line: int, message: str) -> NoReturn:
    raise LandmarkRetrievalError(f"{path}: line {line} {message}")


def _shown(token: bytes) -> str:
    return token.decode(errors=UNDECODED)


def _read_ids(path: Path, num_queries: int) -> tuple[list[bytes], list[_Block]]:
    """Return the id of every line that is not blank, and the blocks in which the lines can be read."""
    line_of: dict[bytes, int] = {}
    blocks, start, first, at, number = [], 0, 1, 0, 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            at += len(line)
            if number == 1:
                line = line.removeprefix(BOM_UTF8)
            comma = line.find(b",")
            name = line[: max(comma, 0)].strip(BLANKS)
            if not name and line.strip(BLANKS):
                wrong = "id before the comma" if comma >= 0 else "comma after the id"
                _fail(path, number, f"has no {wrong}; {EXPECTED}")
            if name in line_of:
                _fail(path, number, f"has the id '{_shown(name)}' of line {line_of[name]}; ids must differ")
            if name:
                line_of[name] = number
            if at - start >= BLOCK:
                blocks.append(_Block(start, at, first))
                start, first = at, number + 1
    if number == 0:
        raise LandmarkRetrievalError(f"{path}: is empty; expected one line a vertex, queries first")
    if len(line_of) <= num_queries:
        raise LandmarkRetrievalError(
            f"{path}: has {len(line_of)} lines, which is too few for {num_queries} queries and an index; "
            "check the number of queries"
        )
    return list(line_of), [*blocks, _Block(start, at, first)]


def _read_edges(path: Path, block: _Block, known: pa.Array, neighbors: int | None) -> _Edges:
    """Read the edges of a block of lines; `known` holds the ids of all lines by row."""
    with path.open("rb") as file:
        file.seek(block.start)
        lines = file.read(block.stop - block.start).split(b"\n")
    numbers = [number for number, line in enumerate(lines, block.number) if line.strip(BLANKS)]
    entries = [lines[number - block.number].partition(b",")[2] for number in numbers]
    tokens, counts = _split(entries)
    for line in np.flatnonzero(counts % 2)[:1]:
        _fail(
            path,
            numbers[line],
            "has an odd number of entries after the comma; every neighbour needs a weight",
        )
    degree = counts // 2
    line_of: NDArray[np.int64] = np.repeat(np.arange(len(degree)), degree)
    kept = np.arange(len(line_of))
    if neighbors is not None:
        kept = kept[kept - (np.cumsum(degree) - degree)[line_of] < neighbors]
    names, numerals = tokens.take(pa.array(2 * kept)), tokens.take(pa.array(2 * kept + 1))
    rows = pc.index_in(names, value_set=known)
    for edge in np.flatnonzero(rows.is_null())[:1] if rows.null_count else ():
        name = _shown(names[edge].as_py())
        _fail(
            path, numbers[line_of[kept[edge]]], f"names the neighbour '{name}', which has no line of its own"
        )
    weights = _numbers(numerals)
    for edge in np.flatnonzero(np.isnan(weights))[:1]:
        weight = _shown(numerals[edge].as_py())
        _fail(path, numbers[line_of[kept[edge]]], f"has the weight '{weight}', which is not a number")
    return _Edges(np.minimum(degree, neighbors or degree), np.asarray(rows, np.int32), weights)


def _split(lines: list[bytes]) -> tuple[pa.Array, NDArray[np.int64]]:
    """Return what stands between blanks in all lines, one array of bytes, and how many of each line."""
    ends = np.cumsum([len(line) + 1 for line in lines])
    text = np.frombuffer(b"\n".join([*lines, b""]), np.uint8)
    filled = np.concatenate([[False], text > BLANKS[-1], [False]])
    bounds = np.flatnonzero(filled[1:] != filled[:-1])
    starts, lengths = bounds[::2], bounds[1::2] - bounds[::2]
    offsets = np.append(0, np.cumsum(lengths)).astype(np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(text[filled[1:-1]])]
    tokens = pa.Array.from_buffers(pa.binary(), len(starts), buffers)
    return tokens, np.diff(np.searchsorted(starts, ends), prepend=0)


def _numbers(numerals: pa.Array) -> NDArray[np.float64]:
    """Read numbers as the nearest doubles; NaN where there is none."""
    try:
        return np.array(numerals.cast(pa.string()).cast(pa.float64()))
    except pa.ArrowInvalid:  # it stops at the first that it does not know, '+1' and '1e-400' among them
        return np.array([_number(token) for token in numerals.to_pylist()], np.float64)


def _number(token: bytes) -> float:
    try:
        return float(token)
    except ValueError:
        return np.nan

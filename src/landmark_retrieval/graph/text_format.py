"""Graphs and rankings in the text format of the EGT authors' program.

A graph has one line a vertex, `id,neighbour weight neighbour weight ...`, queries first; ids are arbitrary
strings without blanks or commas. A ranking has one line a query, `id,id id ...`. The file is read through a
memory map by compiled loops: nothing of its size is copied but the edges themselves.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from landmark_retrieval.errors import LandmarkRetrievalError
from landmark_retrieval.graph.compiled import compiled, frozen, run_chunks, thread_count
from landmark_retrieval.graph.graph import CsrGraph

LINES_AT_A_TIME = 4096
"""Lines that a thread takes at a time."""

UNDECODED = "surrogateescape"
"""How bytes that are not UTF-8 are kept, so that ids of any encoding survive reading and writing."""

NO_COMMA, NO_ID, ODD_TOKENS = 1, 2, 3
MESSAGES = {
    NO_COMMA: "has no comma after the id; expected 'id,neighbour weight neighbour weight ...'",
    NO_ID: "has no id before the comma; expected 'id,neighbour weight neighbour weight ...'",
    ODD_TOKENS: "has an odd number of entries after the comma; every neighbour needs a weight",
}

POWERS = frozen(10.0 ** np.arange(23))
"""Powers of ten that are exact in double precision."""


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
    id_start, id_end, entries_start, end, number, entries, code = _scan(data, _count_lines(data))
    if code:
        _fail(path, number[-1], MESSAGES[code])
    lines = len(number)
    if lines <= num_queries:
        raise LandmarkRetrievalError(
            f"{path}: has {lines} lines, which is too few for {num_queries} queries and an index; "
            "check the number of queries"
        )
    id_ptr = np.append(0, np.cumsum(id_end - id_start))
    names, table, first, second = _build_table(data, id_start, id_ptr)
    if first >= 0:
        name = names[id_ptr[first] : id_ptr[first + 1]].tobytes().decode(errors=UNDECODED)
        _fail(path, number[second], f"has the id '{name}' of line {number[first]}; ids must differ")

    degree = entries // 2 if neighbors is None else np.minimum(entries // 2, neighbors)
    indptr = np.append(0, np.cumsum(degree))
    indices = np.empty(indptr[-1], np.int32)
    weights = np.empty(indptr[-1], np.float64)

    def parse(_: None, start: int, stop: int) -> Any:
        return _parse(
            data, entries_start, end, indptr, names, id_ptr, table, num_queries,
            POWERS, indices, weights, start, stop,
        )  # fmt: skip

    parsed = run_chunks(lines, LINES_AT_A_TIME, thread_count(threads), lambda: None, parse)
    for line, token_start, token_end, _ in parsed:
        if line >= 0:
            token = data[token_start:token_end].tobytes().decode(errors=UNDECODED)
            _fail(path, number[line], f"names the neighbour '{token}', which has no line of its own")
    for edge in np.flatnonzero(np.isnan(weights)):
        line = int(np.searchsorted(indptr, edge, side="right")) - 1
        tokens = re.findall(rb"[^\x00-\x20]+", data[entries_start[line] : end[line]].tobytes())
        weights[edge] = _slow_number(path, int(number[line]), tokens[2 * (edge - indptr[line]) + 1])

    ids = names.tobytes()
    all_ids = [
        ids[a:b].decode(errors=UNDECODED)
        for a, b in zip(id_ptr[:-1].tolist(), id_ptr[1:].tolist(), strict=True)
    ]
    middle = int(indptr[num_queries])
    return TextGraph(
        query_ids=all_ids[:num_queries],
        index_ids=all_ids[num_queries:],
        queries=CsrGraph(indptr[: num_queries + 1], indices[:middle], weights[:middle]),
        index=CsrGraph(indptr[num_queries:] - middle, indices[middle:], weights[middle:]),
        dropped=sum(chunk[3] for chunk in parsed),
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


def _slow_number(path: Path, line: int, token: bytes) -> float:
    """Read a number that the compiled loop left alone: very long, very small or large, or none at all."""
    try:
        value = float(token)
    except ValueError:
        value = np.nan
    if np.isnan(value):
        _fail(path, line, f"has the weight '{token.decode(errors=UNDECODED)}', which is not a number")
    return value


@compiled
def _count_lines(data):  # type: ignore[no-untyped-def]
    lines = 1
    for byte in data:
        lines += byte == 10
    return lines


@compiled
def _scan(data, lines):  # type: ignore[no-untyped-def]
    """Find id, entries and end of every line that is not blank; stop behind the first malformed one.

    Bytes up to the blank count as blanks. Returns id start and end, start of the entries, end of the line,
    number of the line from 1, number of entries, and an error code for the last line.
    """
    id_start = np.empty(lines, np.int64)
    id_end = np.empty(lines, np.int64)
    entries_start = np.empty(lines, np.int64)
    end = np.empty(lines, np.int64)
    number = np.empty(lines, np.int64)
    entries = np.empty(lines, np.int64)
    count = 0
    code = 0
    at = 0
    for line in range(lines):
        while at < len(data) and data[at] <= 32 and data[at] != 10:
            at += 1
        if at == len(data) or data[at] == 10:
            at += 1
            continue
        number[count] = line + 1
        id_start[count] = at
        while at < len(data) and data[at] != 44 and data[at] != 10:
            at += 1
        if at == len(data) or data[at] == 10:
            code = NO_COMMA
        last = at
        while last > id_start[count] and data[last - 1] <= 32:
            last -= 1
        id_end[count] = last
        if code == 0 and last == id_start[count]:
            code = NO_ID
        if code == 0:
            at += 1
            entries_start[count] = at
            tokens = 0
            blank = True
            while at < len(data) and data[at] != 10:
                if data[at] <= 32:
                    blank = True
                elif blank:
                    blank = False
                    tokens += 1
                at += 1
            end[count] = at
            entries[count] = tokens
            if tokens % 2:
                code = ODD_TOKENS
        count += 1
        if code:
            break
        at += 1
    kept = slice(0, count)
    return id_start[kept], id_end[kept], entries_start[kept], end[kept], number[kept], entries[kept], code


@compiled
def _hash(data, start, end):  # type: ignore[no-untyped-def]
    """FNV-1a with 64 bits, its high bits folded into the low ones."""
    h = np.uint64(14695981039346656037)
    for i in range(start, end):
        h = (h ^ np.uint64(data[i])) * np.uint64(1099511628211)
    return h ^ (h >> np.uint64(29))


@compiled
def _find(data, start, end, names, id_ptr, table):  # type: ignore[no-untyped-def]
    """Look up the id in data[start:end].

    An entry of the table holds 32 bits of the hash above the row + 1, and 0 when it is free. Returns the row
    or -1, the place of the entry or of the free one where it would go, and the bits of the hash.
    """
    h = _hash(data, start, end)
    tag = h & np.uint64(0xFFFFFFFF00000000)
    mask = np.uint64(len(table) - 1)
    place = h & mask
    while table[place] != 0:
        if table[place] & np.uint64(0xFFFFFFFF00000000) == tag:
            row = np.int64(table[place] & np.uint64(0xFFFFFFFF)) - 1
            begin = id_ptr[row]
            if id_ptr[row + 1] - begin == end - start:
                same = True
                for i in range(end - start):
                    if names[begin + i] != data[start + i]:
                        same = False
                        break
                if same:
                    return row, place, tag
        place = (place + np.uint64(1)) & mask
    return np.int64(-1), place, tag


@compiled
def _build_table(data, id_start, id_ptr):  # type: ignore[no-untyped-def]
    """Copy the ids together and enter them into a hash table; return also the first two equal ones, or -1."""
    n = len(id_start)
    names = np.empty(id_ptr[n], np.uint8)
    size = 16
    while size < 2 * n:
        size *= 2
    table = np.zeros(size, np.uint64)
    for row in range(n):
        for i in range(id_ptr[row + 1] - id_ptr[row]):
            names[id_ptr[row] + i] = data[id_start[row] + i]
        found, place, tag = _find(names, id_ptr[row], id_ptr[row + 1], names, id_ptr, table)
        if found >= 0:
            return names, table, found, row
        table[place] = tag | np.uint64(row + 1)
    return names, table, -1, -1


@compiled
def _number(data, start, end, powers):  # type: ignore[no-untyped-def]
    """Read a decimal number as the nearest double; NaN when it must be left to the slow way.

    The digits make an integer, which is divided by an exact power of ten. When the integer is longer than
    the 53 bits of a double, what was rounded off is found by products of half as long factors (Dekker 1971)
    and added.
    """
    at = start
    negative = data[at] == 45
    if negative or data[at] == 43:
        at += 1
    mantissa = np.uint64(0)
    digits = 0
    exponent = 0
    point = False
    while at < end:
        byte = data[at]
        if 48 <= byte <= 57:
            mantissa = mantissa * np.uint64(10) + np.uint64(byte - 48)
            if mantissa > 0:
                digits += 1
            exponent -= point
        elif byte == 46 and not point and at + 1 < end:
            point = True
        else:
            return np.nan
        at += 1
    if at == start + (data[start] == 45 or data[start] == 43) or digits > 18 or exponent < -22:
        return np.nan
    scale = powers[-exponent]
    high = np.float64(mantissa)
    low = np.float64(np.int64(mantissa) - np.int64(high))
    quotient = high / scale
    if exponent < 0 and mantissa >= np.uint64(1 << 53):
        a = quotient * 134217729.0
        a = a - (a - quotient)
        b = quotient - a
        c = scale * 134217729.0
        c = c - (c - scale)
        d = scale - c
        product = quotient * scale
        rest = ((a * c - product) + a * d + b * c) + b * d
        quotient += ((high - product) - rest + low) / scale
    return -quotient if negative else quotient


@compiled
def _parse(  # type: ignore[no-untyped-def]
    data, entries_start, end, indptr, names, id_ptr, table, num_queries, powers, indices, weights,
    start, stop,
):  # fmt: skip
    """Read the edges of lines start..stop.

    Returns line, start and end of the first neighbour without a line (line -1 when there is none), and the
    number of edges that lead to queries.
    """
    dropped = 0
    for line in range(start, stop):
        at = entries_start[line]
        for edge in range(indptr[line], indptr[line + 1]):
            while data[at] <= 32:
                at += 1
            first = at
            while data[at] > 32:
                at += 1
            found, _, _ = _find(data, first, at, names, id_ptr, table)
            if found < 0:
                return line, first, at, dropped
            row = found - num_queries
            indices[edge] = max(row, -1)
            dropped += row < 0
            while data[at] <= 32:
                at += 1
            first = at
            while at < end[line] and data[at] > 32:
                at += 1
            weights[edge] = _number(data, first, at, powers)
    return -1, 0, 0, dropped

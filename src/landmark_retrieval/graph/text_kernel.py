"""The compiled loops that read a graph from text: they find the lines, enter the ids, read the edges."""

from __future__ import annotations

import numpy as np

from landmark_retrieval.runtime.compiled import compiled, frozen

NO_COMMA, NO_ID, ODD_TOKENS = 1, 2, 3
"""What may be wrong with a line."""

POWERS = frozen(10.0 ** np.arange(23))
"""Powers of ten that are exact in double precision."""


@compiled
def count_lines(data):  # type: ignore[no-untyped-def]
    """Return the number of lines, of which the last may be empty."""
    lines = 1
    for byte in data:
        lines += byte == 10
    return lines


@compiled
def scan_lines(data, lines):  # type: ignore[no-untyped-def]
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
        id_end[count], at, code = _scan_id(data, at)
        if code == 0:
            at += 1
            entries_start[count] = at
            entries[count], at = _scan_entries(data, at)
            end[count] = at
            if entries[count] % 2:
                code = ODD_TOKENS
        count += 1
        if code:
            break
        at += 1
    kept = slice(0, count)
    return id_start[kept], id_end[kept], entries_start[kept], end[kept], number[kept], entries[kept], code


@compiled
def _scan_id(data, at):  # type: ignore[no-untyped-def]
    """Return the end of the id that starts at a place, where the comma behind it is, and an error code."""
    start = at
    while at < len(data) and data[at] != 44 and data[at] != 10:
        at += 1
    end = at
    while end > start and data[end - 1] <= 32:
        end -= 1
    if at == len(data) or data[at] == 10:
        return end, at, NO_COMMA
    return end, at, NO_ID if end == start else 0


@compiled
def _scan_entries(data, at):  # type: ignore[no-untyped-def]
    """Count the entries from a place to the end of the line; return also this end."""
    tokens = 0
    blank = True
    while at < len(data) and data[at] != 10:
        if data[at] <= 32:
            blank = True
        elif blank:
            blank = False
            tokens += 1
        at += 1
    return tokens, at


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
def build_table(data, id_start, id_ptr):  # type: ignore[no-untyped-def]
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
def parse_edges(  # type: ignore[no-untyped-def]
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

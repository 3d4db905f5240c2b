"""Tables of fixed width for a terminal."""

from __future__ import annotations

from collections.abc import Sequence


def text_table(cells: Sequence[Sequence[str]], left: int = 1, ruled: bool = True) -> list[str]:
    """Return the lines of a table.

    Args:
        cells: rows of equal length, the header first.
        left: leading columns that are aligned to the left; the others are aligned to the right.
        ruled: whether a rule stands below the header.
    """
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for row in cells:
        aligned = [
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(aligned).rstrip())
    rule = ["-" * max(map(len, lines))] if ruled else []
    return [lines[0], *rule, *lines[1:]]

"""Plain-text tables: columns padded by display width, two spaces between them, no ruling lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lockstep.core.text import display_width

Paint = Callable[[int, str], str]  # (column, padded cell) -> decorated cell


def render_table(headers: Sequence[str], rows: Sequence[Sequence[str]], paint: Paint | None = None) -> str:
    """Return the table as text, without trailing spaces. `paint` may decorate a cell but must not change its width."""
    cells = [list(headers), *[list(row) for row in rows]]
    widths = [max(display_width(row[i]) for row in cells) for i in range(len(headers))]
    lines = []
    for number, row in enumerate(cells):
        parts = []
        for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
            last = column == len(row) - 1
            padded = cell if last else cell + " " * (width - display_width(cell))
            parts.append(paint(column, padded) if paint and number else padded)
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)

"""Plain-text tables: columns padded by display width, two spaces between them, no ruling lines.

Where they do not fit, they fold: first the words of the last column, else each row becomes a few lines of its own. A
word (an id, a command, a file's name) is never broken: people copy them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from lockstep.core.text import display_width

Paint = Callable[[int, str], str]  # (column, padded cell) -> decorated cell

_LEAST = 24  # cells that a last column needs, so that folding it reads well
_GAP = 2


def render_table(
    headers: Sequence[str] | None,
    rows: Sequence[Sequence[str]],
    paint: Paint | None = None,
    *,
    width: int | None = None,
) -> str:
    """Return the table as text, without trailing spaces. `paint` may decorate a cell but must not change its width.

    `headers`: None, there are none. `width`: of the terminal, in cells; None: as wide as it is.
    """
    titled = headers is not None
    headers = headers if headers is not None else [""] * (len(rows[0]) if rows else 0)
    widths = [max(map(display_width, column)) for column in zip(headers, *rows, strict=True)]
    if width is not None and sum(widths) + _GAP * (len(widths) - 1) > width:
        before = sum(widths[:-1]) + _GAP * (len(widths) - 1)
        longest = max((display_width(word) for row in rows for word in row[-1].split()), default=0)
        if len(widths) == 1 or width - before < max(_LEAST, longest):
            return _stacked(headers, rows, paint, width)
        text = _aligned(headers, rows, widths, paint, room=width - before)
    else:
        text = _aligned(headers, rows, widths, paint)
    return text if titled else text.partition("\n")[2]


def _aligned(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    widths: Sequence[int],
    paint: Paint | None,
    *,
    room: int | None = None,
) -> str:
    """Rows of padded cells; with `room` the words of the last one go on below."""
    last = len(headers) - 1
    start = " " * (sum(widths[:-1]) + _GAP * last)
    lines = []
    for number, row in enumerate([headers, *rows]):
        cells = [text + " " * (widths[i] - display_width(text)) for i, text in enumerate(row[:-1])]
        first, *rest = folded(row[-1], room) if room is not None else [row[-1]]
        cells.append(first)
        if paint and number:
            cells = [paint(column, cell) for column, cell in enumerate(cells)]
            rest = [paint(last, text) for text in rest]
        lines.append("  ".join(cells).rstrip())
        lines += [(start + text).rstrip() for text in rest]
    return "\n".join(lines)


def _stacked(headers: Sequence[str], rows: Sequence[Sequence[str]], paint: Paint | None, width: int) -> str:
    """A block per row: its first cell, and below it the others behind their headers. A row without one goes on."""
    label = max((display_width(text) for text in headers[1:]), default=0)
    lines: list[str] = []
    for row in rows:
        for column, cell in enumerate(row):
            text = cell.strip()
            if not text:
                continue
            head = f"  {headers[column]}{' ' * (label - display_width(headers[column]))}  " if column else ""
            parts = folded(text, max(width - display_width(head), 1))
            for number, part in enumerate(parts):
                shown = paint(column, part) if paint else part
                lines.append((" " * display_width(head) if number else head) + shown)
    return "\n".join(lines)


def folded(text: str, width: int) -> list[str]:
    """Return a text in lines of at most `width` cells, cut between words; a word that is longer has a line of its own."""
    if display_width(text) <= width:
        return [text]
    lines, line = [], ""
    for word in re.findall(_WORDS, text):
        if line and display_width((line + word).rstrip()) > width:
            lines.append(line.rstrip())
            line = ""
        line += word
    return [*lines, line.rstrip()]


_WORDS = r"\S+\s*"  # with the blanks behind them

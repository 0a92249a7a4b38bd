"""Plain-text tables: columns padded by display width, two spaces between them, no ruling lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lockstep.core.text import display_width

Paint = Callable[[int, str], str]  # (column, padded cell) -> decorated cell


def render_table(headers: Sequence[str], rows: Sequence[Sequence[str]], paint: Paint | None = None) -> str:
    """Return the table as text, without trailing spaces. `paint` may decorate a cell but must not change its width."""
    cells = [headers, *rows]
    columns = [[row[i] for row in cells] for i in range(len(headers))]
    for column, texts in enumerate(columns):
        if column < len(columns) - 1:
            widths = [display_width(text) for text in texts]
            width = max(widths)
            texts[:] = [text + " " * (width - own) for text, own in zip(texts, widths, strict=True)]
        if paint:
            texts[1:] = [paint(column, padded) for padded in texts[1:]]
    return "\n".join(["  ".join(line).rstrip() for line in zip(*columns, strict=True)])

"""Places in a text: line, column and the excerpt with a caret under it. Everything counts characters, from 1."""

from __future__ import annotations

import unicodedata

from lockstep.core import privacy

_WIDTH = 160  # characters of a line that are shown; migrations hold lines of a megabyte


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """Return line and column (both from 1) of the character at `offset` (from 0)."""
    line = text.count("\n", 0, offset) + 1
    return line, offset - (text.rfind("\n", 0, offset) + 1) + 1


def excerpt(text: str, line: int, column: int | None = None) -> str | None:
    """Return one line of `text` with its number, and a caret under `column` when given; None: it may not be quoted."""
    if not privacy.quoting():
        return None
    lines = text.split("\n")
    shown = lines[line - 1] if line <= len(lines) else ""
    if (safe := privacy.hidden(shown)) != shown:
        if column is not None:  # the place is not where it was
            before = privacy.hidden(shown[: column - 1])
            column = len(before) + 1 if safe.startswith(before) else None
        shown = safe
    start = 0
    if column is not None and column > _WIDTH - 20:
        start = column - _WIDTH // 2
    cut = shown[start : start + _WIDTH].replace("\t", " ")
    gutter = f"  {line} | "
    result = gutter + ("…" if start else "") + cut.rstrip()
    if column is None:
        return result
    before = cut[: column - 1 - start]
    return f"{result}\n{' ' * (len(gutter) - 2)}| {' ' * (display_width(before) + bool(start))}^"


def display_width(text: str) -> int:
    """Return how many terminal cells `text` takes: wide East Asian characters take two, combining ones none.

    As terminals count: a joiner takes none, and what stands behind it nothing either; a selector that makes a sign an
    emoji makes it wide.
    """
    if text.isascii():
        return len(text)
    cells = last = 0
    joined = False
    for char in text:
        if char == "\ufe0f":  # the sign before it is shown as an emoji
            cells, last = cells + (last == 1), 2
            continue
        if _takes_no_cell(char):
            joined = char == "\u200d"
            continue
        last = 0 if joined else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        cells += last
        joined = False
    return cells


def _takes_no_cell(char: str) -> bool:
    """Marks on other characters, joiners, and the later parts of a Hangul syllable."""
    if char == "\u00ad":  # a soft hyphen is drawn
        return False
    return unicodedata.category(char) in {"Mn", "Me", "Cf"} or "\u1160" <= char <= "\u11ff"


def printable(text: str) -> str:
    """Return `text` with everything that would steer a terminal, or turn reading round, written out: `\\x1b`, `\\u202e`.

    Line ends and tabs are among it: what others wrote stays one line. What is only unusual stays as it is.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if char.isprintable() else _written_out(char) for char in text)


def _written_out(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"

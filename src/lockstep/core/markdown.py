"""Markdown made of texts that others wrote: whatever stands in them stays text. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lockstep.core.text import printable

#: What Markdown, GitHub's tables and HTML take for more than a character.
_SPECIAL = re.compile(r"([\\`*_\[\]<>|~&$@])")
#: What is made a link without being asked for.
_LINKS = re.compile(r"://|\bwww\.", re.IGNORECASE)


def text(value: str) -> str:
    """Return a text that shows as it is, on one line: no link, no markup, no cell of its own."""
    escaped = _SPECIAL.sub(r"\\\1", printable(value))
    return _LINKS.sub(lambda found: found[0].replace("://", "\\://").replace(".", "\\."), escaped)


def code(value: str) -> str:
    """Return a command or a name as code, also in a cell of a table."""
    plain = printable(value).replace("|", "\\|")
    fence = "`" * (1 + max((len(run) for run in re.findall(r"`+", plain)), default=0))
    pad = " " if plain.startswith("`") or plain.endswith("`") else ""
    return f"{fence}{pad}{plain}{pad}{fence}" if plain else ""


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of cells that are Markdown already; nothing where there is no row."""
    if not rows:
        return ""
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def block(value: str, kind: str = "text") -> str:
    """Return a block of code, whose lines stay lines: nothing that stands in it ends it."""
    lines = [printable(line.expandtabs(4)) for line in value.split("\n")]
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall(r"`+", value)), default=0))
    return "\n".join([f"{fence}{kind}", *lines, fence])

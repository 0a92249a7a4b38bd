"""Rows as comma separated values (RFC 4180) that a spreadsheet may open: what others wrote never becomes a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

#: What makes spreadsheets take a text for a formula, the wide forms of East Asian keyboards included.
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")


def csv_text(rows: Iterable[Sequence[str | int | None]], *, header: Sequence[str]) -> str:
    """Return the rows behind one header, lines ending in CRLF. None is an empty cell; numbers stay numbers."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(header)
    writer.writerows([[cell(value) if isinstance(value, str) else value for value in row] for row in rows])
    return out.getvalue()


def cell(text: str) -> str:
    """Return a text as a cell: behind an apostrophe where a spreadsheet would compute it, control characters written out.

    Blanks in front are looked through: some programs trim them first.
    """
    shown = "".join(
        char if (char >= " " and char != "\x7f") or char in "\t\r\n" else f"\\x{ord(char):02x}" for char in text
    )
    seen = shown.lstrip().lstrip("\ufeff").lstrip()  # whatever Unicode calls a blank
    return f"'{shown}" if shown.startswith(_FORMULA) or seen.startswith(_FORMULA) else shown

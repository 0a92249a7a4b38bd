"""Whether messages may quote SQL, and what the server or a row says: `[privacy] excerpts`, for this process.

A process works for one project, and whoever makes a message need not know which. Names of tables, columns and
constraints, places in files, SQLSTATEs and counts may be told in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lockstep.core.redaction import redact

_quoting = True
_secrets: Callable[[], Sequence[str]] = tuple
_known: Sequence[str] | None = None


def quote(allowed: bool) -> None:
    """From now on messages of this process may quote, or may not."""
    global _quoting  # of the process, as its log is
    _quoting = allowed


def quoting() -> bool:
    """Whether a message may quote a line of SQL, a value, or the server's own words about one."""
    return _quoting


def hide(secrets: Callable[[], Sequence[str]]) -> None:
    """From now on what is quoted of a file is quoted without these. They are asked for at the first quotation."""
    global _secrets, _known
    _secrets, _known = secrets, None


def hidden(text: str) -> str:
    """Return a quotation without the project's secrets, and without whatever looks like credentials."""
    global _known
    if _known is None:
        _known = tuple(_secrets())
    return redact(text, _known)


def said(text: str) -> str:
    """Return what a file says in a few words, as it may be told: without secrets, or a sign for it."""
    return hidden(text) if _quoting else "(not shown)"


def in_words(advice: str | None) -> str | None:
    """Return an advice as it may be told: without the SQL below its first line where nothing may be quoted."""
    if _quoting or advice is None or "\n" not in advice:
        return advice
    return advice.partition("\n")[0].rstrip(":")

"""Whether messages may quote SQL, and what the server or a row says: `[privacy] excerpts`, for this process.

A process works for one project, and whoever makes a message need not know which. Names of tables, columns and
constraints, places in files, SQLSTATEs and counts may be told in any case.
"""

from __future__ import annotations

_quoting = True


def quote(allowed: bool) -> None:
    """From now on messages of this process may quote, or may not."""
    global _quoting  # of the process, as its log is
    _quoting = allowed


def quoting() -> bool:
    """Whether a message may quote a line of SQL, a value, or the server's own words about one."""
    return _quoting


def in_words(advice: str | None) -> str | None:
    """Return an advice as it may be told: without the SQL below its first line where nothing may be quoted."""
    if _quoting or advice is None or "\n" not in advice:
        return advice
    return advice.partition("\n")[0].rstrip(":")

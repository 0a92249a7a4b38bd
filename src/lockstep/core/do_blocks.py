"""DO blocks: whether a PL/pgSQL body ends transactions, which cannot work inside of one. Found by its tokens, unrun.

COMMIT and ROLLBACK are no reserved words (a variable or a column may be called so), so only those in the position of
a statement count. A procedure that is called may commit as well: that only the server can tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def ends_transactions(body: str) -> bool:
    """Whether a PL/pgSQL body has COMMIT or ROLLBACK as a statement. A body that does not scan has none."""
    return _first(body) is not None


def calls_procedures(body: str) -> bool:
    """Whether a PL/pgSQL body has CALL as a statement. A body that does not scan has none."""
    return _first(body, _CALLS, None) is not None


def place_of_end(statement: str) -> int | None:
    """Return where, in characters, the text of a DO statement ends a transaction; None when it cannot be told."""
    raw = statement.encode()
    for token in _tokens(statement):
        if token.token != _SCONST or raw[token.start : token.start + 1] != b"$":
            continue
        text = raw[token.start : token.end].decode()
        tag = text[: text.index("$", 1) + 1]
        found = _first(text[len(tag) : -len(tag)])
        if found is not None:
            return len(raw[: token.start].decode()) + len(tag) + found
    return None


_SCONST = 261  # libpg_query: a string constant, dollar-quoted ones included
_COMMENTS = frozenset({275, 276})  # SQL_COMMENT, C_COMMENT
_ENDS = frozenset({"commit", "rollback"})
_CALLS = frozenset({"call"})
_BEFORE = frozenset({";", "begin", "then", "else", "loop"})  # what a statement of PL/pgSQL may follow
_AFTER = frozenset({";", "and", "work", "transaction"})


def _first(body: str, wanted: frozenset[str] = _ENDS, followed_by: frozenset[str] | None = _AFTER) -> int | None:
    if not any(word in body.lower() for word in wanted):
        return None
    raw = body.encode()
    tokens = [t for t in _tokens(body) if t.token not in _COMMENTS]
    words = [raw[t.start : t.end].decode().lower() for t in tokens]
    for index, word in enumerate(words):
        before = words[index - 1] if index else ";"
        after = words[index + 1] if index + 1 < len(words) else ""
        if word in wanted and before in _BEFORE and (followed_by is None or after in followed_by):
            return len(raw[: tokens[index].start].decode())
    return None


def _tokens(text: str) -> Sequence[Any]:
    from lockstep.core.grammar import PgQueryError, scan  # late: 70 ms that a status does not need

    try:
        return tuple(scan(text).tokens)
    except PgQueryError:
        return ()

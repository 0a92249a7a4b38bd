"""The body of a DO block: whether it ends transactions, which no transaction block survives."""

from __future__ import annotations


def ends_transactions(body: str) -> bool:
    """Return whether a PL/pgSQL body holds COMMIT or ROLLBACK as a statement.

    Both are unreserved words, so only the place of a statement counts. A body that does not scan holds none.
    """
    from postgast import PgQueryError, scan  # late: 70 ms of imports that a status does not need

    upper = body.upper()
    if "COMMIT" not in upper and "ROLLBACK" not in upper:
        return False
    raw = body.encode()
    try:
        tokens = [raw[t.start : t.end].upper() for t in scan(body).tokens if t.token not in _COMMENTS]
    except PgQueryError:
        return False
    around = zip([b";", *tokens], tokens, [*tokens[1:], b""], strict=False)
    return any(word in _ENDS and before in _BEFORE and after in _AFTER for before, word, after in around)


_COMMENTS = frozenset({275, 276})  # libpg_query: SQL_COMMENT, C_COMMENT
_ENDS = frozenset({b"COMMIT", b"ROLLBACK"})
_BEFORE = frozenset({b";", b"BEGIN", b"THEN", b"ELSE", b"LOOP", b">>"})
_AFTER = frozenset({b";", b"AND", b"WORK", b"TRANSACTION"})

"""PostgreSQL's own grammar (libpg_query, through postgast), made ready for trees of any depth.

Import it late, inside functions: it costs 70 ms that a status does not need.
"""

from __future__ import annotations

from typing import Any

import postgast
from postgast import PgQueryError, deparse

from lockstep.core.nesting import DEEPEST, exhausting_comment, may_be_deep, too_deep


def _allow_deep_trees() -> None:
    """protobuf refuses trees of more than 100 levels, which is a chain of 48 `||`. PostgreSQL itself knows no such limit."""
    try:
        from google._upb import _message
    except ImportError:  # another implementation of protobuf, with limits of its own
        return
    _message.SetAllowOversizeProtos(True)


_allow_deep_trees()


def scan(text: str) -> Any:
    """Return the tokens of a text. Raises PgQueryError, also for what no scanner gets through in time."""
    _check_comments(text)
    return postgast.scan(text)


def split(text: str) -> list[str]:
    """Return the statements of a text, however deep. Raises PgQueryError."""
    _check_comments(text)
    return list(postgast.split(text))


def parse(text: str) -> Any:
    """Return the tree of a text. Raises PgQueryError, also for what would end this process (core.nesting)."""
    _check_comments(text)
    if may_be_deep(text) and (at := too_deep(postgast.scan(text).tokens)) is not None:
        before = len(text.encode()[:at].decode(errors="ignore"))
        raise PgQueryError(f"more than {DEEPEST:,} operators in one expression", cursorpos=before + 1)
    return postgast.parse(text)


def _check_comments(text: str) -> None:
    if (at := exhausting_comment(text)) is not None:
        raise PgQueryError("thousands of comments begin here, one within the other", cursorpos=at + 1)


__all__ = ["PgQueryError", "deparse", "parse", "scan", "split"]

"""Statements of our own, told one by one with their times (`--verbose`): who sent them and how they begin, no more."""

from __future__ import annotations

import re
import sys
import time
from typing import Any

import psycopg

from lockstep.core import steps


class SpokenCursor(psycopg.Cursor[Any]):
    """A cursor that tells of what it executes. Never the text: a statement may hold what must not be shown."""

    def execute(self, query: Any, *arguments: Any, **named: Any) -> SpokenCursor:
        started = time.monotonic()
        try:
            super().execute(query, *arguments, **named)
        finally:
            what = f"{self.connection.info.dbname}: {_kind(query)}, {_sender()}"
            steps.done(what, time.monotonic() - started)
        return self


def _kind(query: Any) -> str:
    """The first word of a statement: SELECT, INSERT, BEGIN."""
    text = query.decode() if isinstance(query, bytes) else query if isinstance(query, str) else query.as_string()
    found = re.search(r"[A-Za-z]+", text)
    return found[0].upper() if found else "a statement"


def _sender() -> str:
    """The function of ours that sent it."""
    frame = sys._getframe(1)
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module.startswith("lockstep.") and module != __name__:
            return f"{module.removeprefix('lockstep.')}.{frame.f_code.co_name}"
        frame = frame.f_back  # type: ignore[assignment]
    return "?"

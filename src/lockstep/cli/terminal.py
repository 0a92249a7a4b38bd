"""How a command speaks: results to stdout, talk to stderr, colour only as decoration, one JSON document with --json."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

import msgspec

from lockstep.core.duration import format_ms
from lockstep.errors import ExitCode, LockstepError, MigrationFailed

LINE_EVERY = 5.0  # seconds between two lines about what is under way, where no line can be written over

_COLOURS = {"green": "32", "yellow": "33", "red": "31", "dim": "2", "bold": "1"}


def show(text: str) -> None:
    """Print a result."""
    sys.stdout.write(text + "\n")


def talk(text: str) -> None:
    """Say something beside the result."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def show_json(kind: str, body: dict[str, Any]) -> None:
    """Print the one document of a --json call. docs/reference/json.md describes each `format`."""
    raw = msgspec.json.encode({"format": f"lockstep.{kind}/1", **body}, enc_hook=str)
    sys.stdout.write(msgspec.json.format(raw.decode(), indent=2) + "\n")


def paint(text: str, colour: str, stream: Any = None) -> str:
    """Colour a text when `stream` (stdout by default) is a terminal and NO_COLOR is not set."""
    stream = stream or sys.stdout
    if not stream.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\033[{_COLOURS[colour]}m{text}\033[0m"


def show_error(error: LockstepError, *, as_json: bool, contacts: list[str], runbook: str | None) -> ExitCode:
    """Say what went wrong, what to do next and where to read on; return the exit code."""
    if as_json:
        show_json("error", {"error": error_document(error)})
        return error.exit_code
    more = _more(error)
    talk(f"{paint('error:', 'red', sys.stderr)} {error.message}")
    if isinstance(error, MigrationFailed) and error.detail:
        talk(f"  detail: {error.detail}")
    if error.hint:
        talk(f"  next: {error.hint}")
    if more:
        talk(f"  more: {more}")
    if error.exit_code is not ExitCode.USAGE:
        if contacts:
            talk(f"  contacts: {', '.join(contacts)}")
        if runbook:
            talk(f"  runbook: {runbook}")
    return error.exit_code


def error_document(error: LockstepError) -> dict[str, Any]:
    """An error as JSON documents hold it."""
    return {
        "kind": type(error).__name__,
        "message": error.message,
        "hint": error.hint,
        "more": _more(error),
        "exit_code": int(error.exit_code),
    }


def _more(error: LockstepError) -> str | None:
    return f"docs/guide.md#{error.more}" if error.more else None


class TerminalProgress:
    """Progress as lines on stderr: one per thing done, with its time; on a terminal also what is under way."""

    def __init__(self, write: Callable[[str], None] = talk) -> None:
        self._write = write
        self._live = sys.stderr.isatty()
        self._pending = False
        self._next_line = 0.0  # when the next one about something under way is due

    def note(self, environment: str, text: str) -> None:
        self._clear()
        self._write(f"{environment}: {text}")

    def started(self, environment: str, what: str) -> None:
        if self._live:
            self._clear()
            sys.stderr.write(f"{environment}:   {what} …")
            sys.stderr.flush()
            self._pending = True

        self._next_line = time.monotonic() + LINE_EVERY

    def under_way(self, environment: str, what: str, text: str) -> None:
        now = time.monotonic()
        if self._live:
            self._clear()
            sys.stderr.write(f"{environment}:   {what} … {text}")
            sys.stderr.flush()
            self._pending = True
        elif now >= self._next_line:
            self._next_line = now + LINE_EVERY
            self._write(f"{environment}:   {what} … {text}")

    def finished(self, environment: str, what: str, outcome: str, ms: int | None) -> None:
        self._clear()
        took = f"  {format_ms(ms)}" if ms is not None else ""
        self._write(f"{environment}:   {what}  {paint(outcome, 'green', sys.stderr)}{took}")

    def _clear(self) -> None:
        if self._pending:
            sys.stderr.write("\r\033[2K")
            self._pending = False

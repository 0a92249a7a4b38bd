"""Words that the page's parts share. Pure."""

from __future__ import annotations

from datetime import datetime

from lockstep.errors import LockstepError

LINES = 3  # of a message


def age(at: datetime, now: datetime) -> str:
    """How long ago, in one unit: `3 hours`."""
    seconds = max(0, int((now - at).total_seconds()))
    for size, unit in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= 2 * size or (unit == "minute" and seconds >= size):
            return count(seconds // size, unit)
    return "less than a minute"


def count(number: int, what: str, many: str | None = None) -> str:
    """`1 migration`, `2 migrations`."""
    return f"{number:,} {what if number == 1 else many or what + 's'}"


def one_line(text: str) -> str:
    """A message that may have several lines, in one."""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    return " ".join(lines[:LINES]) + (" …" if len(lines) > LINES else "")


def said(error: LockstepError) -> str:
    """What an error says, in one line."""
    return one_line(error.message)

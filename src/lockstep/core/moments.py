"""Times as a person reads them, given now and a time zone: `today 09:14`, `12 Mar 10:02`, `12 Mar 2025`."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


_zone: tzinfo | None = None


def show_in(zone: tzinfo | None) -> None:
    """Choose the zone of this process's times for people, once, at its start. None: the machine's own."""
    global _zone  # as the C library's TZ, which programs that we start would take up as well
    _zone = zone


def format_moment(moment: datetime, now: datetime, zone: tzinfo | None = None) -> str:
    """Return a short text. Both times carry a zone; `zone` None means the one that was chosen for this process."""
    zone = zone or _zone
    there, here = moment.astimezone(zone), now.astimezone(zone)
    if there.date() == here.date():
        return f"today {there:%H:%M}"
    day = f"{there.day:2d} {_MONTHS[there.month - 1]}"
    if there.year != here.year:
        return f"{day} {there.year}"
    return f"{day} {there:%H:%M}"


def utc_minute(moment: datetime) -> str:
    """Return a time for messages that are read elsewhere: `2026-03-12 10:15 UTC`."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def minute(moment: datetime) -> str:
    """Return a time in UTC for a table whose head says so: `2026-03-12 10:15`."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"

"""A period that a person asks for: from a time, to a time, or back by a duration from now. Pure; UTC where no zone is given."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

from lockstep.core.duration import parse_duration

FORMS = "a date such as 2026-11-24, a UTC time such as 2026-11-24T10:15, or a duration back such as 7d or 12h"

_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?")


def parse_moment(text: str, now: datetime) -> datetime:
    """Return the moment that is meant, in UTC: a date is its first moment, a duration is counted back from `now`.

    Raises ValueError that shows the accepted forms.
    """
    meant = text.strip()
    try:
        if _DAY.fullmatch(meant):
            return datetime.combine(date.fromisoformat(meant), datetime.min.time(), tzinfo=UTC)
        if _TIME.fullmatch(meant):
            found = datetime.fromisoformat(meant)
            return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
        return now.astimezone(UTC) - timedelta(milliseconds=parse_duration(meant))
    except (ValueError, OverflowError):
        raise ValueError(f"'{text}' is no time; write {FORMS}") from None

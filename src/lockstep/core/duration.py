"""Durations as people write them in directives and config: `500ms`, `2s`, `10min`, `1h`."""

from __future__ import annotations

import re

_FORM = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,12})?)\s*(ms|s|min|h|d)")
_MS = {"ms": 1, "s": 1_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}


def parse_duration(text: str) -> int:
    """Return milliseconds. Raises ValueError that shows the accepted forms."""
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"'{text}' is no duration; write for example 500ms, 2s, 10min or 1h")
    return round(float(match[1]) * _MS[match[2]])


def format_ms(ms: int | float | None) -> str:
    """Return a short text for a person: `38 ms`, `2.4 s`, `3 min 05 s`."""
    if ms is None:
        return ""
    if ms < 1_000:
        return f"{ms:.0f} ms"
    if ms < 60_000:
        return f"{ms / 1_000:.1f} s"
    minutes, rest = divmod(round(ms / 1_000), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"

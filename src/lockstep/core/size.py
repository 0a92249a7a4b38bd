"""Sizes for people."""

from __future__ import annotations

import re

_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def parse_bytes(text: str) -> int:
    """Return bytes of a text such as `500MB`. Raises ValueError that shows the accepted forms."""
    match = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,12})?)\s*(B|kB|MB|GB|TB)", text.strip())
    if match is None:
        raise ValueError(f"'{text}' is no size; write for example 500kB, 10MB, 1.5GB or 2TB")
    return round(float(match[1]) * _UNITS[match[2]])


def format_bytes(count: int) -> str:
    """Return `512 B`, `12.3 kB`, `4.5 MB`: powers of 1,000, as bucket listings and disks count."""
    if count < 1_000:
        return f"{count} B"
    size = float(count)
    for unit in ("kB", "MB", "GB", "TB"):
        size /= 1_000
        if size < 999.95 or unit == "TB":
            break
    return f"{size:.1f} {unit}"

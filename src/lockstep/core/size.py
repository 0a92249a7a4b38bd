"""Sizes for people."""

from __future__ import annotations


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

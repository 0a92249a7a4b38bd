"""Names and texts as SQL wants them."""

from __future__ import annotations

from lockstep.core.locking.nodes import quote


def quoted(*parts: str) -> str:
    """Return a name, its parts joined by dots, quoted where it must be."""
    return ".".join(quote(part) for part in parts)


def literal(text: str) -> str:
    """Return a string constant."""
    return "'" + text.replace("'", "''") + "'"


def number(value: float) -> str:
    """Return a count for people: 1,234,567."""
    return f"{value:,.0f}"


def percent(part: float, whole: float) -> float:
    """Return what part of a whole that is, in percent with one decimal; of nothing, 0."""
    return round(100 * part / whole, 1) if whole else 0.0


def listed(names: list[str]) -> str:
    """Return up to three names in a row, and how many more there are."""
    rest = len(names) - 3
    return ", ".join(names[:3]) + (f" and {rest} more" if rest > 0 else "")

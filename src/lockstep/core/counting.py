"""Numbers with their nouns: `1 migration`, `3 migrations`, `1,204 rows`. One place, so that the grammar is right everywhere."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number and its noun. `plural` is for what does not just take an `s`; both may go on: `row is`, `rows are`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"

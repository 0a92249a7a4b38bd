"""How much of a backup a rehearsal restores: all of it, the tables that the plan may touch, or definitions alone. Pure.

By estimates: what counts is whether a rehearsal comes to an end within its budget.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from lockstep.core.contents import TableContents
from lockstep.core.counting import counted
from lockstep.core.duration import format_ms
from lockstep.core.rehearsal.closure import Table
from lockstep.core.size import format_bytes

#: Bytes of a database, with indexes, that two cores restore in a second: 2.3 GB took 43 to 93 s.
RESTORED = 25_000_000
#: Of the budget, what the restore may take: the trials come after it.
SHARE = 0.7
#: Bytes of a table that are read, and that are written anew with their indexes, in a second.
READ, REWRITTEN = 400_000_000, 60_000_000
_INDEXES = 1.5  # a table with its indexes, in sizes of the table


class Tier(Enum):
    """How much is restored. The names are in reports."""

    FULL = "full"
    TOUCHED = "touched tables"
    SCHEMA = "schema only"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Whose rows are restored."""

    tier: Tier
    tables: frozenset[Table] | None = None  # None: of all
    notes: tuple[str, ...] = ()


def estimate_ms(size: int, rate: float = RESTORED) -> int:
    """Return how long a restore of so many bytes takes. `rate`: bytes in a second."""
    return round(size / rate * 1_000)


def fits(size: int, budget_ms: int, rate: float = RESTORED) -> bool:
    """Whether so many bytes are restored in time."""
    return estimate_ms(size, rate) <= budget_ms * SHARE


def reduced(
    tables: Iterable[TableContents],
    touched: frozenset[Table],
    always: frozenset[Table],
    *,
    size: int,
    budget_ms: int,
    rate: float = RESTORED,
) -> Rows:
    """Return what is restored of a database of `size` bytes that takes too long: the touched tables, or none."""
    why = f"a restore of all {format_bytes(size)} would take about {format_ms(estimate_ms(size, rate))}"
    chosen = [one for one in tables if (one.schema, one.name) in touched]
    part = round(sum(one.size for one in chosen) * _INDEXES)
    if fits(part, budget_ms, rate):
        names = frozenset((one.schema, one.name) for one in chosen) | always
        return Rows(
            tier=Tier.TOUCHED,
            tables=names,
            notes=(f"{why}: rows of {counted(len(chosen), 'table')}, {format_bytes(part)}",),
        )
    notes = [f"{why}, and of the tables that the plan may touch {format_ms(estimate_ms(part, rate))}: no rows"]
    largest = sorted(chosen, key=lambda one: -one.size)[:_NAMED]
    notes += [
        f"estimated, not tried: {one.schema}.{one.name} has {one.rows:,} rows, {format_bytes(one.size)}; reading it takes "
        f"about {format_ms(round(one.size / READ * 1_000))}, writing it anew {format_ms(round(one.size / REWRITTEN * 1_000))}"
        for one in largest
    ]
    return Rows(tier=Tier.SCHEMA, tables=always, notes=tuple(notes))


_NAMED = 10  # tables of which times are estimated

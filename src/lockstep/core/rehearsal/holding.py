"""What tables hold, as numbers, and what is not there any more between two looks at them. Pure; no value is kept.

Two looks at a table are compared by its rows, by how many values each column has, and by a sum over hashes of them that
does not depend on their order. A partition counts as part of its table: rows may move from one to another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lockstep.core.counting import counted
from lockstep.core.rehearsal.proof import Loss

DROPPED_TABLE = "the table is dropped"
DROPPED_COLUMN = "the column is dropped"
ROWS_GONE = "rows are deleted"
VALUES_GONE = "values are gone"
VALUES_OTHER = "values are other ones"


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """What one column of a table holds."""

    number: int  # attnum: the same in all clones of one database
    filled: int  # values that are not null
    own: int  # of these, the ones that are not what a constant default would make again
    sum: int | None = None  # over the values' hashes; None: not taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What one table holds; of a partitioned one all partitions together."""

    relation: str  # public.orders
    rows: int
    columns: Mapping[str, Values]  # by name, without generated ones
    summed: bool  # the sums were taken


def unquoted(relation: str) -> str:
    """Return the name that a table is told by here, of one as SQL writes it: my.s.Odd "T" of "my.s"."Odd ""T""."""
    if '"' not in relation:
        return relation
    return ".".join(part[1:-1].replace('""', '"') if part.startswith('"') else part for part in _PART.findall(relation))


_PART = re.compile(r'"(?:[^"]|"")*"|[^".]+')


def joined(holdings: Iterable[Holding]) -> dict[str, Holding]:
    """Return them by relation, those of one relation added up."""
    found: dict[str, Holding] = {}
    for one in holdings:
        other = found.get(one.relation)
        found[one.relation] = one if other is None else _added(one, other)
    return found


def _added(one: Holding, other: Holding) -> Holding:
    summed = one.summed and other.summed
    columns = {}
    for name in {**other.columns, **one.columns}:
        parts = [side.columns[name] for side in (other, one) if name in side.columns]
        columns[name] = Values(
            number=parts[0].number,
            filled=sum(part.filled for part in parts),
            own=sum(part.own for part in parts),
            sum=sum(part.sum or 0 for part in parts) if summed else None,
        )
    return Holding(relation=one.relation, rows=one.rows + other.rows, columns=columns, summed=summed)


def lost(
    before: Mapping[str, Holding], after: Mapping[str, Holding], written: Mapping[str, int]
) -> tuple[list[Loss], list[str], list[str]]:
    """Compare what tables held before a migration with what they hold after its up and its down.

    Returns what is lost, notes, and what could not be told: whether values are lost is not known then. `written`: rows
    of each table that were updated on the way; a sum tells that values differ, and not how many.
    """
    losses: list[Loss] = []
    notes: list[str] = []
    untold: list[str] = []
    for name, old in before.items():
        new = after.get(name)
        if new is None or new.rows < old.rows:
            rows = old.rows - (new.rows if new else 0)
            if rows:
                losses.append(Loss(relation=name, column=None, rows=rows, what=ROWS_GONE if new else DROPPED_TABLE))
        if new is None:
            continue
        columns = [_lost_values(name, column, old, new, written) for column in old.columns]
        losses += [one for one in columns if one is not None]
        if new.rows != old.rows:
            if new.rows > old.rows:
                notes.append(f"{_rows(new.rows - old.rows)} more in {name} than before")
            if any(one.filled for one in old.columns.values()) and new.rows:
                untold.append(f"values of {name} were not compared: its rows are not as many as before")
        elif not (old.summed and new.summed) and old.rows:
            untold.append(f"values of {name} were counted, not compared: it is too large")
    return losses, notes, untold


def _lost_values(name: str, column: str, old: Holding, new: Holding, written: Mapping[str, int]) -> Loss | None:
    was, now = old.columns[column], new.columns.get(column)
    if now is None:
        return Loss(relation=name, column=column, rows=was.own, what=DROPPED_COLUMN) if was.own else None
    if new.rows < old.rows and now.filled + (old.rows - new.rows) >= was.filled:
        return None  # no fewer than the rows that are gone account for
    if now.filled < was.filled:
        return Loss(relation=name, column=column, rows=was.filled - now.filled, what=VALUES_GONE)
    if new.rows == old.rows and was.sum is not None and now.sum is not None and was.sum != now.sum:
        rows = min(written.get(name) or old.rows, old.rows)
        return Loss(relation=name, column=column, rows=rows, what=VALUES_OTHER)
    return None


def _rows(count: int) -> str:
    return counted(count, "row")

"""The way back of each migration, as a rehearsal found it: proven, or why not, and what it would lose."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from lockstep.core.counting import counted


class Standing(Enum):
    """What the trial of a down script gave."""

    PROVEN = "proven"  # the schema is again what it was, no row is lost, and the up runs again to the same end
    DIFFERS = "not proven"  # it runs, and leaves something else than there was before
    FAILED = "fails"  # it does not run, or the up does not run again after it
    LOSES = "loses data"  # the schema comes back, rows or values do not
    IRREVERSIBLE = "irreversible"  # the file says so, with a reason
    MISSING = "no down script"
    UNTRIED = "not tried"  # another one was in the way, or there was nothing to try it on


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Rows, or values of one column, that are not there any more after the way back."""

    relation: str
    column: str | None  # None: whole rows
    rows: int
    what: str  # in words: the table is dropped, the column is dropped, rows are deleted, values are other ones


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """A table, or one column of a table, that a down drops: whatever is written into it later goes with it."""

    relation: str
    column: str | None = None  # None: the whole table


@dataclass(frozen=True, slots=True, kw_only=True)
class RevertProof:
    """One migration's way back."""

    name: str  # migration_name
    version: int | None  # a repeatable, which has none, has no way back of its own
    standing: Standing
    down_checksum: str | None = None  # of the script that was tried; None: none was
    reason: str | None = None  # why irreversible, why it fails, why not tried
    differs: tuple[str, ...] = ()  # objects that are not what they were, a line each
    losses: tuple[Loss, ...] = ()
    drops: tuple[Dropped, ...] = ()  # all that it drops and that can hold values, empty or not
    notes: tuple[str, ...] = ()  # what else is to be known: what was not compared, rows that stay
    ms: float | None = None  # what the down took on the copy
    blocking_ms: float | None = None  # the longest that it kept others waiting

    @property
    def text(self) -> str:
        """In one line: `loses data: 12,345 rows of 2 columns`."""
        if self.standing is Standing.LOSES:
            return f"loses data: {losses_text(self.losses)}"
        detail = "; ".join(self.differs[:3]) if self.standing is Standing.DIFFERS else self.reason
        more = len(self.differs) - 3
        ending = f" and {more} more" if self.standing is Standing.DIFFERS and more > 0 else ""
        word = "not proven: differs at" if self.standing is Standing.DIFFERS else f"{self.standing.value}:"
        return f"{word} {detail}{ending}" if detail else self.standing.value


def losses_text(losses: tuple[Loss, ...]) -> str:
    """Return what is lost, in words: `12,345 rows of 2 columns, 40 rows of public.notes`."""
    columns = [one for one in losses if one.column is not None]
    words = []
    if columns:
        what = f"{columns[0].relation}.{columns[0].column}" if len(columns) == 1 else f"{len(columns)} columns"
        words.append(f"{_rows(max(one.rows for one in columns))} of {what}")
    words += [f"{_rows(one.rows)} of {one.relation}" for one in losses if one.column is None]
    return ", ".join(words)


def _rows(count: int) -> str:
    return counted(count, "row")


@dataclass(frozen=True, slots=True, kw_only=True)
class WayBack:
    """One way back after a deploy, measured on the copy."""

    how: str  # revert, restore
    ms: float | None  # None: not measured, or there is none
    loses: str  # in words; "" when it is nothing
    command: str  # what to run

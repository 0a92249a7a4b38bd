"""What was seen while a plan ran on a copy: locks, windows, rewrites, scans, rows and WAL, statement by statement.

Values alone. Times are milliseconds without what the looking itself took. Relations are named as people write them,
`public.orders`, and only those that existed before the plan count as somebody else's.
"""

from __future__ import annotations

from dataclasses import dataclass

from lockstep.core.locking.lock_modes import Mode


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedLock:
    """One relation that a statement locked, or locked more strongly than the statements of the transaction before it."""

    relation: str
    kind: str  # in words: table, partition, index, sequence, view, materialized view, foreign table, TOAST table
    mode: Mode
    existed: bool  # before the plan began; nobody waits for what the plan itself makes


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """One relation of before that was written anew."""

    relation: str
    kind: str  # as of a lock
    bytes: int  # of the new one, without indexes and TOAST where it is a table
    reason: str | None = None  # in words: another column type, a volatile default, …; None: not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """One table that was read from end to end."""

    relation: str
    scans: int
    rows: int  # read by them


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Rows of one table that were written."""

    relation: str
    inserted: int = 0
    updated: int = 0
    deleted: int = 0

    @property
    def rows(self) -> int:
        return self.inserted + self.updated + self.deleted


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementTrace:
    """One statement of a file, as it ran."""

    index: int  # in its script, from 0
    line: int  # of its start, from 1
    kind: str  # in words: ALTER TABLE, CREATE INDEX CONCURRENTLY, …
    ms: float
    locks: tuple[TracedLock, ...] = ()  # strongest first
    rewrites: tuple[Rewrite, ...] = ()
    emptied: tuple[str, ...] = ()  # relations that a TRUNCATE left without rows
    scans: tuple[Scan, ...] = ()
    written: tuple[Written, ...] = ()
    wal: int = 0  # bytes
    sampled: bool = False  # its locks were seen from a second session, now and then: short ones may be missing
    batches: int = 1  # of a backfill: transactions


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """How long one lock that others feel was held: from its acquisition, at the earliest, to the commit."""

    relation: str
    mode: Mode
    ms: float
    line: int  # of the statement that took it


@dataclass(frozen=True, slots=True, kw_only=True)
class FileTrace:
    """One file of the plan, as it ran."""

    name: str  # migration_name
    transactional: bool
    ms: float  # all of it, commit included
    statements: tuple[StatementTrace, ...]
    windows: tuple[Window, ...] = ()  # of strong modes on relations of before, longest first
    invalid_indexes: tuple[str, ...] = ()  # that it left behind
    trace_ms: float = 0.0  # that looking took, in all

    @property
    def work_ms(self) -> float:
        """What its statements took: without the pauses between batches, as the ledger counts it too."""
        return self.ms if self.transactional else sum(one.ms for one in self.statements)

    @property
    def wal(self) -> int:
        """Bytes of write-ahead log that its statements made."""
        return sum(one.wal for one in self.statements)

    @property
    def worst(self) -> Window | None:
        """The window that blocks others longest; None when nobody waits."""
        return max(self.windows, key=lambda one: one.ms, default=None)

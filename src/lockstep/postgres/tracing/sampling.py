"""A statement that cannot run in a transaction, sampled from a second session while it runs.

Its locks come and go in transactions of its own, so they are seen now and then: short ones may be missing, and a window
is told longer rather than shorter, by one interval at either end.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg

from lockstep.core.locking.lock_modes import Mode, strongest
from lockstep.core.rehearsal.looks import Watched
from lockstep.core.rehearsal.trace import Rewrite, Scan, StatementTrace, TracedLock, Window, Written
from lockstep.postgres.tracing import look
from lockstep.postgres.tracing.look import LOCK_WORDS, MODES, Counts
from lockstep.postgres.tracing.relations import ORDER, ROWS, Relation, Relations, kind_of, query

SHORTEST = 0.001  # seconds between samples, at first; a hundredth of the time so far later on
LONGEST = 0.05


@dataclass(slots=True, kw_only=True)
class Counted:
    """What the server counted so far in a file, table by table: read whole once a file, then only where something ran."""

    version: int
    so_far: dict[int, Counts] = field(default_factory=dict)

    def news(self, connection: psycopg.Connection, oids: Sequence[int] | None = None) -> dict[int, Counts]:
        """Return what came on top; of all tables without `oids`. Nothing before PostgreSQL 15. Raises psycopg.Error."""
        if self.version < look.TELLS_SINCE:
            return {}
        which = "c.oid >= 16384" if oids is None else "c.oid = ANY (%(oids)s::pg_catalog.oid[])"
        text = query("counts").replace("{which}", which)
        rows = connection.execute(text.encode(), {"oids": list(oids or ())}).fetchall()
        now = {row[0]: Counts(*row[1:]) for row in rows}
        news = {oid: counts.since(self.so_far.get(oid, Counts())) for oid, counts in now.items()}
        self.so_far |= now
        return news

    def add(self, counts: Mapping[int, Counts]) -> None:
        """Take in what a transaction was seen to do."""
        for oid, one in counts.items():
            so_far = zip(self.so_far.get(oid, Counts()), one, strict=True)
            self.so_far[oid] = Counts(*(before + on_top for before, on_top in so_far))


@dataclass(slots=True, kw_only=True)
class Sampler:
    """One statement on its way. `start`, `sample` meanwhile, `finish`."""

    connection: psycopg.Connection  # the second session, autocommit
    pid: int  # of the session that works
    relations: Relations
    counted: Counted
    began: float = 0.0  # monotonic, seconds
    _last: float = 0.0  # before the last sample
    _mark: int = 0
    _wal: int = 0
    _held: dict[tuple[int, Mode], float] = field(default_factory=dict)  # since when
    _named: tuple[int, ...] = ()
    _longest: dict[tuple[int, Mode], float] = field(default_factory=dict)  # seconds

    def start(self) -> None:
        """The statement is sent next. Raises psycopg.Error."""
        self._mark, self._wal = self._state()
        self.began = self._last = time.monotonic()
        self.sample()  # holds nothing yet, and is prepared from now on: the shortest statements take some milliseconds
        self.began = self._last = time.monotonic()

    @property
    def pause(self) -> float:
        """Seconds until the next sample."""
        return min(LONGEST, max(SHORTEST, (time.monotonic() - self.began) / 100))

    def sample(self) -> None:
        """Look once."""
        before = time.monotonic()
        with suppress(psycopg.Error):
            rows = self.connection.execute(_sample().encode(), (self.pid,), prepare=True).fetchall()
            now = time.monotonic()
            held = self._folded(rows)
            for key in held:
                self._held.setdefault(key, self._last)
            for key in [key for key in self._held if key not in held]:
                self._let_go(key, now)
            self._last = before

    def finish(
        self, index: int, watched: Watched, ms: float, named: Sequence[int]
    ) -> tuple[StatementTrace, tuple[Window, ...]]:
        """The statement is done: what was seen, and how long others would have waited. Raises psycopg.Error.

        `named` are the relations that its text names.
        """
        self._named = tuple(named)
        for key in list(self._held):
            self._let_go(key, self.began + ms / 1_000)
        _, wal = self._state()
        locks, windows, rewrites = self._seen(watched)
        scans, written = self._rows(None if self._all(watched) else self._tables)
        trace = StatementTrace(
            index=index,
            line=watched.line,
            kind=watched.kind,
            ms=ms,
            locks=locks,
            rewrites=rewrites,
            scans=scans,
            written=written,
            wal=max(0, wal - self._wal),
            sampled=True,
        )
        return trace, windows

    def windows(self, line: int, ms: float) -> tuple[Window, ...]:
        """The statement is done: for how long others waited for what it locked, also where it let go of that again."""
        for key in list(self._held):
            self._let_go(key, self.began + ms / 1_000)
        found = []
        for (oid, mode), seconds in self._longest.items():
            relation = self.relations.known.get(oid)
            if relation is not None and relation.existed and mode.strong:
                found.append(Window(relation=relation.name, mode=mode, ms=seconds * 1_000, line=line))
        return tuple(found)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _let_go(self, key: tuple[int, Mode], now: float) -> None:
        self._longest[key] = max(self._longest.get(key, 0.0), now - self._held.pop(key))

    def _folded(self, rows: list[tuple[Any, ...]]) -> set[tuple[int, Mode]]:
        found: dict[int, list[Mode]] = {}
        for oid, rank in rows:
            found.setdefault(self.relations.folded.get(oid, oid), []).append(MODES[rank])
        held = {oid: mode for oid, modes in found.items() if (mode := strongest(modes)) is not None}
        return {(oid, mode) for oid, mode in held.items() if not self._hidden(oid, mode, held)}

    def _hidden(self, oid: int, mode: Mode, held: Mapping[int, Mode]) -> bool:
        known = self.relations.known.get(oid)
        return self.relations.hidden(oid, mode, held.get(known.table) if known and known.table else None)

    def _seen(self, watched: Watched) -> tuple[tuple[TracedLock, ...], tuple[Window, ...], tuple[Rewrite, ...]]:
        rewrites = self._changed(watched)
        locks: dict[str, TracedLock] = {}
        windows = []
        for (oid, mode), seconds in self._longest.items():
            relation = self.relations.known.get(oid)
            if relation is None:
                continue  # it came and went with the statement
            if relation.name not in locks or locks[relation.name].mode.rank < mode.rank:
                locks[relation.name] = TracedLock(
                    relation=relation.name, kind=relation.kind, mode=mode, existed=relation.existed
                )
            if relation.existed and mode.strong:
                windows.append(Window(relation=relation.name, mode=mode, ms=seconds * 1_000, line=watched.line))
        ordered = sorted(locks.values(), key=lambda one: (-one.mode.rank, ORDER[one.kind], one.relation))
        return tuple(ordered), tuple(windows), rewrites

    @property
    def _tables(self) -> list[int]:
        """The relations that were seen or are named, and the tables of the indexes among them."""
        seen = {oid for oid, _ in self._longest} | set(self._named)
        return sorted(seen | {one.table for oid in seen if (one := self.relations.known.get(oid)) and one.table})

    def _all(self, watched: Watched) -> bool:
        """Whether all relations are to be asked for: it may have done anything, or nobody knows where."""
        return watched.kind in ("CALL", "DO") or not self._tables

    def _changed(self, watched: Watched) -> tuple[Rewrite, ...]:
        """Learn what is new and what has another file. An index that took another's name counts as that one."""
        found = []
        which, given = (_WRITTEN, self._mark) if self._all(watched) else (_ASKED, self._tables)
        rows = self.connection.execute(query("changed").replace("{which}", which).encode(), {"given": given}).fetchall()
        for oid, relkind, partition, name, filenode, table, size in rows:
            kind = kind_of(relkind, partition)
            known = self.relations.known.get(oid)
            if known is None:
                old = self.relations.predecessor(name) if kind == "index" else None
                if old is None:
                    self.relations.known[oid] = Relation(
                        name=name, kind=kind, existed=False, filenode=filenode, table=table
                    )
                    continue
                known = self.relations.known[oid] = replace(self.relations.known[old])
                self.relations.indexes[name] = oid
            if filenode and filenode != known.filenode:
                known.filenode = filenode
                if known.existed and kind in ROWS | {"index"}:
                    reason = watched.kind.removesuffix(" CONCURRENTLY").split(" ")[0]
                    reason = watched.kind if reason == "VACUUM" else reason
                    found.append(Rewrite(relation=known.name, kind=kind, bytes=size or 0, reason=reason))
        return tuple(sorted(found, key=lambda one: (ORDER[one.kind], -one.bytes, one.relation)))

    def _rows(self, oids: Sequence[int] | None) -> tuple[tuple[Scan, ...], tuple[Written, ...]]:
        scans: list[Scan] = []
        written: list[Written] = []
        for oid, on_top in self.counted.news(self.connection, oids).items():
            relation = self.relations.known.get(oid)
            if relation is not None:
                scans += on_top.scanned(relation.name) if relation.existed else ()
                written += on_top.written(relation.name)
        return tuple(scans), tuple(written)

    def _state(self) -> tuple[int, int]:
        """The next transaction's number, modulo 2^32, and the position in the WAL."""
        row = self.connection.execute(
            "SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::bigint, "
            "(pg_catalog.pg_current_wal_insert_lsn() - '0/0'::pg_catalog.pg_lsn)::bigint"
        ).fetchone()
        assert row is not None
        return row[0] % 2**32, row[1]


#: Indexes come along with their tables: new ones, and those that took the place of others.
_ASKED = """
    SELECT given.oid FROM pg_catalog.unnest(%(given)s::pg_catalog.oid[]) given (oid)
    UNION SELECT of.indexrelid FROM pg_catalog.pg_index of WHERE of.indrelid = ANY (%(given)s::pg_catalog.oid[])
"""
_WRITTEN = """
    SELECT any_one.oid FROM pg_catalog.pg_class any_one
     WHERE pg_catalog.age(any_one.xmin) <= pg_catalog.age((%(given)s)::text::pg_catalog.xid)
"""


def _sample() -> str:
    return query("sample").replace("{modes}", "{" + ",".join(LOCK_WORDS) + "}")

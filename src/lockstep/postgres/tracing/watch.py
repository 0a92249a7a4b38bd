"""Traces what a plan does on a copy: looks at the work session's locks, files, statistics and WAL between statements.

It runs on clones alone, where nobody else works. A transaction is looked at from inside, after each statement; what
cannot run in a transaction is sampled from a second session. It cancels nothing and judges nothing, and a look that
fails costs what it would have shown, never the run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import psycopg
from psycopg.pq import TransactionStatus

from lockstep.core.rehearsal.looks import Watched, watched
from lockstep.core.rehearsal.trace import FileTrace, StatementTrace, Window
from lockstep.postgres.connection import Session
from lockstep.postgres.tracing import look
from lockstep.postgres.tracing.look import Counts, counts_before, looking, sizes
from lockstep.postgres.tracing.reasons import NAME
from lockstep.postgres.tracing.relations import ORDER, Relations
from lockstep.postgres.tracing.sampling import Counted, Sampler
from lockstep.postgres.tracing.transaction import Transaction
from lockstep.postgres.watch import Watch

if TYPE_CHECKING:
    from lockstep.core.migration import SqlFile
    from lockstep.postgres.message import Part


@dataclass(slots=True, kw_only=True)
class _File:
    name: str
    file: SqlFile
    watched: tuple[Watched, ...]
    invalid: frozenset[str]  # indexes, before it
    started: float
    statements: list[StatementTrace] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    trace_ms: float = 0.0
    counted: Counted | None  # where a statement stands alone


class TracingWatch(Watch):
    """A watch that sees all and stops nothing. `begin_file`, then the file runs, then `end_file`."""

    apart = True
    _file: _File | None = None
    _relations: Relations | None = None
    _reasons_told = False
    _session: Session | None = None
    _transaction: Transaction | None = None  # under way
    _alone = False  # the part under way is a statement that stands alone
    _sampler: Sampler | None = None  # of it, while it runs
    _wal = 0
    _counts: Mapping[int, Counts] = MappingProxyType({})
    _sent_at = 0.0

    def begin_file(self, session: Session, name: str, file: SqlFile) -> None:
        """A file is about to run on a session that is idle. `name` is the migration's. The first one reads the catalog."""
        if self._relations is None:
            self._relations = Relations.read(session)
            row = session.connection.execute(
                "SELECT EXISTS (SELECT FROM pg_catalog.pg_event_trigger WHERE evtname = %s)", (NAME,)
            ).fetchone()
            self._reasons_told = row is not None and bool(row[0])
        self._transaction = None
        statements = watched(file)
        alone = any(one.alone for one in statements)
        counted = self._counted(session) if alone else None
        self._file = _File(
            name=name,
            file=file,
            watched=statements,
            invalid=frozenset(_invalid(session)),
            counted=counted,
            started=time.monotonic(),
        )

    def end_file(self, session: Session) -> FileTrace:
        """The file is done, or failed: return what was seen."""
        file = self._file
        assert file is not None
        ms = (time.monotonic() - file.started) * 1_000 - file.trace_ms
        if self._transaction is not None:  # it was rolled back, and kept others waiting all the same
            self._transaction.finished()
            self._keep(file, self._transaction)
        self._file = self._transaction = self._sampler = None
        invalid = [name for name in _invalid(session) if name not in file.invalid]
        return FileTrace(
            name=file.name,
            transactional=file.file.transactional,
            ms=ms,
            statements=tuple(file.statements),
            windows=_longest(file.windows, self._relations.kinds if self._relations else {}),
            invalid_indexes=tuple(invalid),
            trace_ms=file.trace_ms,
        )

    def begin(self, session: Session, *, patience_ms: int | None, told: Callable[[str], None] | None) -> None:
        """A message is about to be sent: what went before it and did not commit is gone."""
        super().begin(session, patience_ms=patience_ms, told=told)
        self._session, self._transaction, self._sampler, self._alone = session, None, None, False
        if self._file is not None and self._relations is not None:
            started = time.monotonic()
            self._make_ready(session, self._relations)
            self._file.trace_ms += (time.monotonic() - started) * 1_000

    @property
    def pause(self) -> float:
        """Seconds until the next look: in a transaction nothing is looked for while a statement runs."""
        return 1.0 if self._sampler is None else self._sampler.pause

    def look(self) -> None:
        """A sample. Nobody is in the way on a copy, and nothing is given up there."""
        if self._sampler is not None:
            self._sampler.sample()

    def before(self, part: Part) -> None:
        """A part is about to be sent: a statement that stands alone is sampled."""
        started = time.monotonic()
        file, relations, session = self._file, self._relations, self._session
        index = _statement(part)
        if file is not None and relations is not None and session is not None and index is not None:
            self._alone = session.connection.info.transaction_status is TransactionStatus.IDLE
            if self._alone:
                self._sampler = self._sampling(session, relations, file.counted)
            elif file.watched[index].kind in _CODE:
                self._sampler = self._sampling_code(session, relations)
            file.trace_ms += (time.monotonic() - started) * 1_000
        self._sent_at = time.monotonic()

    def after(self, session: Session, part: Part) -> None:
        now = time.monotonic()
        file, relations = self._file, self._relations
        if file is None or relations is None:
            return
        took = (now - self._sent_at) * 1_000
        if self._alone and (index := _statement(part)) is not None:
            self._sampled(session, file, index, took)
        elif self._sampler is not None and (index := _statement(part)) is not None:
            file.windows += self._sampler.windows(file.watched[index].line, took)
        self._alone, self._sampler = False, None
        transaction = self._transaction
        if transaction is None and session.connection.info.transaction_status is TransactionStatus.INTRANS:
            self._transaction = transaction = self._begun(relations)
        if transaction is None:
            pass
        elif part.to_commit is not None:
            transaction.finished(took)
            transaction.committed()
            if file.counted is not None:
                file.counted.add(transaction.counts)
            self._keep(file, transaction)
            self._transaction = None
        elif (index := _statement(part)) is not None:
            transaction.ran(index, file.watched[index], took)
            if transaction.due:
                with looking(session, relations) as seen:
                    transaction.saw(seen, lambda oids: sizes(session, oids))
        else:
            transaction.clock += took
        file.trace_ms += (time.monotonic() - now) * 1_000

    # -- inside -------------------------------------------------------------------------------------------------------

    def _make_ready(self, session: Session, relations: Relations) -> None:
        """Start from zero, before a transaction begins: inside one no query may come before the file's own."""
        # A build's helpers would count the rows that they read in places where nobody sees them.
        flush = "pg_catalog.pg_stat_force_next_flush()" if session.facts.version >= look.TELLS_SINCE else "NULL"
        with suppress(psycopg.Error):
            cursor = session.connection.execute(
                "SET max_parallel_maintenance_workers = 0; "
                f"SELECT (pg_catalog.pg_current_wal_insert_lsn() - '0/0'::pg_catalog.pg_lsn)::bigint, {flush}".encode()
            )
            cursor.nextset()
            row = cursor.fetchone()
            self._wal = row[0] if row else 0
            self._counts = counts_before(session) if session.facts.version < look.TELLS_SINCE else {}

    def _counted(self, session: Session) -> Counted | None:
        """Open the second session, and read what the server counted so far."""
        self._broken = self._broken or session.facts.pooled
        if self._connection is None and not self._open():
            return None
        assert self._connection is not None
        counted = Counted(version=session.facts.version)
        with suppress(psycopg.Error):
            _told(session, ())
            counted.news(self._connection)
        return counted

    def _sampling(self, session: Session, relations: Relations, counted: Counted | None) -> Sampler | None:
        """Sample from a second session; without one there is nothing to be seen."""
        if self._connection is None or counted is None:
            return None
        with suppress(psycopg.Error):
            sampler = Sampler(connection=self._connection, pid=session.facts.pid, relations=relations, counted=counted)
            sampler.start()
            return sampler
        return None

    def _sampling_code(self, session: Session, relations: Relations) -> Sampler | None:
        """Code may catch an error and so let go of locks again before anybody looks: it is sampled as well."""
        self._broken = self._broken or session.facts.pooled
        if self._connection is None and not self._open():
            return None
        return self._sampling(session, relations, Counted(version=session.facts.version))

    def _sampled(self, session: Session, file: _File, index: int, took: float) -> None:
        one, sampler, self._sampler = file.watched[index], self._sampler, None
        trace = StatementTrace(index=index, line=one.line, kind=one.kind, ms=took, sampled=True)
        if sampler is not None:
            with suppress(psycopg.Error, UnicodeError):
                trace, windows = sampler.finish(index, one, took, _told(session, one.names))
                file.windows += windows
        file.statements.append(trace)

    def _begun(self, relations: Relations) -> Transaction:
        return Transaction(
            relations=relations, wal=self._wal, reasons_told=self._reasons_told, counts=dict(self._counts)
        )

    def _keep(self, file: _File, transaction: Transaction) -> None:
        file.windows += transaction.windows
        if file.file.directives.repeat_until_empty and file.statements:
            file.statements = [_batch(file.statements[0], one) for one in transaction.statements] or file.statements
        else:
            file.statements += transaction.statements


#: What runs code, which may take locks and let go of them again.
_CODE = frozenset({"DO", "CALL", "SELECT"})


def _statement(part: Part) -> int | None:
    """The index of the file's statement that a part is about; None: it is our own."""
    segment = next((one for one in part.segments if not one.verifies and not one.replays), None)
    return None if segment is None or segment.count != 1 else segment.first


def _batch(so_far: StatementTrace, one: StatementTrace) -> StatementTrace:
    """One more batch of a backfill. The last finds nothing, and is none."""
    read = {scan.relation: scan for scan in so_far.scans}
    for scan in one.scans:
        known = read.get(scan.relation, replace(scan, scans=0, rows=0))
        read[scan.relation] = replace(known, scans=known.scans + scan.scans, rows=known.rows + scan.rows)
    rows = {written.relation: written for written in so_far.written}
    for written in one.written:
        old = rows.get(written.relation, replace(written, inserted=0, updated=0, deleted=0))
        rows[written.relation] = replace(
            old,
            inserted=old.inserted + written.inserted,
            updated=old.updated + written.updated,
            deleted=old.deleted + written.deleted,
        )
    return replace(
        so_far,
        ms=so_far.ms + one.ms,
        scans=tuple(read.values()),
        written=tuple(rows.values()),
        wal=so_far.wal + one.wal,
        batches=so_far.batches + bool(one.written),
    )


def _longest(windows: Iterable[Window], kinds: dict[str, str]) -> tuple[Window, ...]:
    """The longest of each relation and mode; tables before what belongs to them."""
    found: dict[tuple[str, object], Window] = {}
    for one in windows:
        known = found.get((one.relation, one.mode))
        if known is None or known.ms < one.ms:
            found[one.relation, one.mode] = one
    return tuple(
        sorted(
            found.values(),
            key=lambda one: (-one.ms, -one.mode.rank, ORDER.get(kinds.get(one.relation, ""), 99), one.relation),
        )
    )


def _told(session: Session, names: Sequence[str]) -> list[int]:
    """Make an idle session tell the server what it counted; return which relations it means by some names."""
    if session.facts.version >= look.TELLS_SINCE:
        session.connection.execute("SELECT pg_catalog.pg_stat_force_next_flush()")
    rows = session.connection.execute(
        "SELECT pg_catalog.to_regclass(name)::pg_catalog.oid::bigint FROM pg_catalog.unnest(%s::text[]) AS given (name)",
        (list(names),),
    ).fetchall()
    return [row[0] for row in rows if row[0] is not None]


def _invalid(session: Session) -> list[str]:
    """Indexes that queries cannot use. One of a partitioned table that waits for its parts is none."""
    with suppress(psycopg.Error, UnicodeError):
        rows = session.connection.execute(_INVALID).fetchall()
        return [row[0] for row in rows]
    return []


_INVALID = """
SELECT pg_catalog.concat(pg_catalog.quote_ident(n.nspname), '.', pg_catalog.quote_ident(c.relname))
  FROM pg_catalog.pg_index i
  JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE NOT i.indisvalid AND c.relkind = 'i'
 ORDER BY 1
"""

"""Reads what a health check judges: one .sql file per part, each with a time limit of its own. It judges nothing.

Catalog and counters only: no row of anybody's table is read, and nothing is locked longer than its one statement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from lockstep.core.duration import format_ms
from lockstep.core.health import facts
from lockstep.core.health.facts import BackupAges, Earlier, Facts
from lockstep.core.health.findings import Hidden
from lockstep.core.health.judging import NEEDS
from lockstep.core.managed import is_managed
from lockstep.errors import LedgerFiltered, LedgerMissing
from lockstep.postgres.audit import read_backup_record
from lockstep.postgres.connection import Session, guard

_FOLDER = Path(__file__).parent
_LOCK_TIMEOUT_MS = 500  # a sequence or table that somebody has locked whole is not waited for
#: Sequences in one statement: each keeps a lock until it ends, and the server's lock table has 6,400 places by default.
BATCH = 500

T = TypeVar("T")

#: Parts that need no parameter, in the order in which they are read; the quick ones about the present come first.
_PARTS: dict[str, type[Any]] = {
    "databases": facts.Database,
    "oldest_tables": facts.OldTable,
    "sessions": facts.ClientSession,
    "blocked": facts.Blocked,
    "prepared": facts.Prepared,
    "replicas": facts.Replica,
    "slots": facts.Slot,
    "triggers": facts.Trigger,
    "constraints": facts.Constraint,
    "indexes": facts.Index,
    "tables": facts.Table,
    "sequences": facts.Sequence,
    "narrow_columns": facts.NarrowColumn,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What was read of one database, and which checks that leaves without their numbers."""

    facts: Facts
    hidden: tuple[Hidden, ...]


def read_facts(session: Session, *, timeout_ms: int, earlier: Callable[[], Earlier | None], backups: bool) -> Reading:
    """Read all parts. Read-only; a part that fails or takes longer than `timeout_ms` hides no other.

    `earlier` is asked last, for what rates are reckoned from; only then tables are asked for their bytes on disk. With
    `backups` the audit log is asked for the age of the backups.
    Sequences are each opened once: their lock (ROW EXCLUSIVE) conflicts with nothing but changes of the sequence, and
    lasts one statement. Raises Unreachable when the connection is lost.
    """
    return _Reader(session, timeout_ms).read(earlier, backups=backups)


class _Reader:
    def __init__(self, session: Session, timeout_ms: int) -> None:
        self._session = session
        self._timeout_ms = timeout_ms
        self._hidden: list[Hidden] = []
        self._managed: list[str] = []

    def read(self, earlier: Callable[[], Earlier | None], *, backups: bool) -> Reading:
        with guard(self._session.target):
            # The session's own, read-only. Compiling and workers would cost the server more than they save here.
            self._session.connection.execute(
                f"SET statement_timeout = {self._timeout_ms}; SET lock_timeout = {_LOCK_TIMEOUT_MS}; SET jit = off; "
                "SET max_parallel_workers_per_gather = 0".encode()
            )
        servers = self._part("server", facts.Server)
        found = Facts(server=servers[0] if servers else None)
        if found.server is not None:
            pairs = zip(found.server.schemas, found.server.owners, strict=True)
            self._managed = [schema for schema, owner in pairs if is_managed(schema, owner)]
        parts: dict[str, Any] = {name: self._part(name, row) for name, row in _PARTS.items()}
        found = replace(found, **parts)
        if found.sequences is not None:
            feeds = self._part("sequence_feeds", facts.SequenceFeed) or ()
            found = replace(found, sequences=tuple(_fed(found.sequences, feeds)))
        if found.sequences is not None:
            oids = [one.oid for one in found.sequences if one.readable and not one.cycles]
            found = replace(found, sequence_values=self._batches("sequence_values", facts.SequenceValue, oids))
        if backups:
            found = replace(found, backups=self._backups())
        found = replace(found, earlier=earlier())
        if found.earlier is not None and found.tables is not None:
            oids = [one.oid for one in found.tables if one.kind != "p"]
            found = replace(found, sizes=self._batches("sizes", facts.TableSize, oids))
        return Reading(facts=found, hidden=tuple(self._hidden))

    def _part(self, name: str, row: type[T]) -> tuple[T, ...] | None:
        return self._rows(name, row, sql.SQL(_text(name)).format(**self._ours()), None)  # our own file

    def _batches(self, name: str, row: type[T], oids: Sequence[int]) -> tuple[T, ...] | None:
        found: list[T] = []
        for start in range(0, len(oids), BATCH):
            rows = self._rows(name, row, _text(name).encode(), {"oids": list(oids[start : start + BATCH])})
            if rows is None:
                return None
            found += rows
        return tuple(found)

    def _rows(
        self, name: str, row: type[T], statement: sql.Composed | bytes, values: dict[str, Any] | None
    ) -> tuple[T, ...] | None:
        try:
            with guard(self._session.target), self._session.connection.cursor(row_factory=class_row(row)) as cursor:
                return tuple(cursor.execute(statement, values).fetchall())
        except psycopg.Error as error:
            self._hide(name, error)
            return None

    def _hide(self, name: str, error: psycopg.Error) -> None:
        why, fix = self._reason(error)
        self._hidden += [Hidden(check=check, why=why, fix=fix, whole=True) for check in NEEDS.get(name, ())]

    def _reason(self, error: psycopg.Error) -> tuple[str, str | None]:
        match error:
            case psycopg.errors.QueryCanceled():
                return f"it took longer than {format_ms(self._timeout_ms)}", "raise [health] timeout"
            case psycopg.errors.LockNotAvailable():
                return "something that it looks at is locked by another session", "try again"
            case psycopg.errors.InsufficientPrivilege():
                role = sql.Identifier(self._session.facts.current_user).as_string(None)
                return f"permission denied: {error.diag.message_primary}", f"GRANT pg_monitor TO {role};"
            case _:
                return f"the server said {error.sqlstate}: {error.diag.message_primary}", None

    def _backups(self) -> BackupAges | None:
        environment = self._session.target.environment
        try:
            record = read_backup_record(self._session)
        except LedgerMissing:
            self._hidden.append(
                Hidden(check="backup-age", why="there is no ledger", fix=f"lockstep init {environment}")
            )
        except LedgerFiltered as error:
            self._hidden.append(
                Hidden(check="backup-age", why="the audit log is hidden from this role", fix=error.hint)
            )
        except psycopg.errors.InsufficientPrivilege:
            role = sql.Identifier(self._session.facts.current_user).as_string(None)
            log = sql.Identifier(self._session.target.ledger_schema, "schema_migrations_log").as_string(None)
            self._hidden.append(
                Hidden(
                    check="backup-age",
                    why="this role may not read the audit log",
                    fix=f"GRANT SELECT ON {log} TO {role};  -- or [project] ledger_reader, and lockstep init {environment}",
                )
            )
        except psycopg.Error as error:
            self._hide("backups", error)
        else:
            return BackupAges(taken_at=record.taken_at, verified_at=record.verified_at, ok=record.ok)
        return None

    def _ours(self) -> dict[str, sql.Composable]:
        """What is the team's: no schema of the system's or of a service's, no member of an extension, no ledger."""
        ledger = sql.SQL(", ").join(
            sql.Literal(sql.Identifier(self._session.target.ledger_schema, name).as_string(None))
            for name in ("schema_migrations", "schema_migrations_log")
        )
        managed = sql.SQL(", ").join([sql.Literal(name) for name in self._managed]) if self._managed else sql.SQL("")
        return {
            f"ours_{alias}": sql.SQL(
                "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND n.nspname <> ALL (ARRAY[{managed}]::text[])"
                " AND NOT EXISTS (SELECT FROM pg_depend m WHERE m.classid = 'pg_class'::regclass"
                " AND m.objid = {alias}.oid AND m.deptype = 'e')"
                " AND {alias}.oid NOT IN (SELECT to_regclass(l.name)::oid FROM unnest(ARRAY[{ledger}]) AS l(name)"
                " WHERE to_regclass(l.name) IS NOT NULL)"
            ).format(managed=managed, alias=sql.Identifier(alias), ledger=ledger)
            for alias in ("c", "t")
        }


def _fed(sequences: Sequence[facts.Sequence], feeds: Sequence[facts.SequenceFeed]) -> Iterator[facts.Sequence]:
    first = {feed.sequence: feed for feed in reversed(feeds)}
    for sequence in sequences:
        feed = first.get(sequence.oid)
        yield (
            sequence
            if feed is None
            else replace(
                sequence,
                table_schema=feed.table_schema,
                table=feed.table,
                column=feed.column,
                type=feed.type,
                table_oid=feed.table_oid,
                attnum=feed.attnum,
                inserted=feed.inserted,
            )
        )


def _text(name: str) -> str:
    return (_FOLDER / f"{name}.sql").read_text(encoding="utf-8")

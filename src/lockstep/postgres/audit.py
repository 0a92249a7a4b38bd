"""The audit log: append-only, each row chained to the one before by its hash. Written and read here; postgres.auditchain verifies it.

It is tamper-evident, not tamper-proof: its head and length also go into every backup's manifest. No row holds a secret.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from lockstep.errors import LedgerFiltered
from lockstep.postgres.connection import Session, guard
from lockstep.postgres.ledger import missing, reads_all_rows, unreadable_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One row of the audit log, to be written."""

    event: str  # init, apply, fail, revert, repair, baseline, refuse, backup, …
    run_id: str | None
    migration_name: str | None = None
    version: int | None = None
    duration_ms: int | None = None
    details: Mapping[str, Any] | None = None  # never a secret
    orchestrator_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedEvent:
    """One row of the audit log, as read."""

    id: int
    at: datetime
    event: str
    actor: str
    host: str | None
    run_id: str | None
    migration_name: str | None
    version: int | None
    duration_ms: int | None
    details: Mapping[str, Any]
    orchestrator_url: str | None = None
    previous_hash: str = ""
    hash: str = ""


def write_event(session: Session, event: Event) -> int:
    """Append one row to the audit log, in the caller's transaction if there is one; return its number."""
    with guard(session.target):
        row = session.connection.execute(
            sql.SQL(
                "INSERT INTO {}.schema_migrations_log (event, host, run_id, orchestrator_url, migration_name, version, "
                "duration_ms, details) VALUES (%s, %s, %s, %s, %s, %s, %s, %s) RETURNING id"
            ).format(sql.Identifier(session.target.ledger_schema)),
            (
                event.event,
                socket.gethostname(),
                event.run_id,
                event.orchestrator_url,
                event.migration_name,
                event.version,
                event.duration_ms,
                Jsonb(dict(event.details or {})),
            ),
        ).fetchone()
    assert row is not None  # its own trigger numbers it; nothing swallows it without an error
    return int(row[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which rows of a log. What is not given filters nothing."""

    actor: str | None = None
    run_id: str | None = None
    event: str | None = None
    migration: str | None = None  # file name, or without .sql, or its version in digits
    since: datetime | None = None  # this moment is part of it
    until: datetime | None = None  # this one is not

    def clause(self) -> tuple[sql.SQL, list[Any]]:
        """Return the WHERE clause, or nothing, and its values."""
        parts: list[tuple[LiteralString, list[Any]]] = []
        for column, value in (
            ("actor = %s", self.actor),
            ("run_id = %s", self.run_id),
            ("event = %s", self.event),
            ("at >= %s", self.since),
            ("at < %s", self.until),
        ):
            if value is not None:
                parts.append((column, [value]))
        if self.migration is not None:
            # A version is compared as a number, so 7 and 007 are one; a correction of several names them in its rows.
            names = [self.migration, f"{self.migration}.sql", f"repeatable/{self.migration}.sql"]
            digits = self.migration.isdecimal() and len(self.migration) < 19
            parts.append(
                ("(migration_name = ANY (%s) OR version = %s)", [names, int(self.migration) if digits else None])
            )
        if not parts:
            return sql.SQL(""), []
        return sql.SQL("WHERE " + " AND ".join(text for text, _ in parts)), [v for _, values in parts for v in values]


ALL = Wanted()
_COLUMNS = (
    "id, at, event, actor, host, run_id, migration_name, version, duration_ms, details, orchestrator_url, "
    "previous_hash, hash"
)


def read_log(session: Session, *, limit: int | None, wanted: Wanted = ALL) -> list[LoggedEvent]:
    """Return the newest rows that are wanted, newest first; all of them without a limit.

    Raises LedgerMissing, LedgerFiltered.
    """
    where, values = wanted.clause()
    statement = sql.SQL("SELECT {} FROM {}.schema_migrations_log {} ORDER BY id DESC LIMIT %s").format(
        sql.SQL(_COLUMNS), sql.Identifier(session.target.ledger_schema), where
    )
    rows = log_rows(session, statement, (*values, limit))
    return [
        LoggedEvent(
            id=r[0], at=r[1], event=r[2], actor=r[3], host=r[4], run_id=r[5], migration_name=r[6], version=r[7],
            duration_ms=r[8], details=r[9] if isinstance(r[9], dict) else {"details": r[9]}, orchestrator_url=r[10], previous_hash=r[11], hash=r[12],
        )
        for r in rows
    ]  # fmt: skip


def count_log(session: Session) -> int:
    """Return how many rows the log has. Raises LedgerMissing, LedgerFiltered."""
    statement = sql.SQL("SELECT count(*) FROM {}.schema_migrations_log").format(
        sql.Identifier(session.target.ledger_schema)
    )
    return int(log_rows(session, statement, ())[0][0])


#: Events that a run is known by. What only looks (a verification, a refusal of the lock) makes none the newest run.
_OF_RUNS = ["begin", "apply", "fail", "revert", "start", "resume", "rehearse", "refuse", "ask", "override", "check"]


def newest_run(session: Session) -> tuple[str, datetime] | None:
    """Return the newest run of the log with the time of its last event; None: there is none."""
    return _run(session, sql.SQL("event = ANY (%s)"), (_OF_RUNS,))


def run_of_url(session: Session, part: str) -> tuple[str, datetime] | None:
    """Return the run whose address in the orchestrator's UI ends so, as `newest_run` does."""
    return _run(session, sql.SQL("orchestrator_url LIKE '%%' || %s"), (part,))


def _run(session: Session, condition: sql.SQL, values: tuple[Any, ...]) -> tuple[str, datetime] | None:
    statement = sql.SQL(
        "SELECT run_id, at FROM {}.schema_migrations_log WHERE run_id IS NOT NULL AND {} ORDER BY id DESC LIMIT 1"
    ).format(sql.Identifier(session.target.ledger_schema), condition)
    rows = log_rows(session, statement, values)
    return (str(rows[0][0]), rows[0][1]) if rows else None


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupRecord:
    """What the audit log knows of the target's backups."""

    taken_at: datetime | None = None  # when the newest one was recorded
    verified_at: datetime | None = None  # when one was last verified, whichever
    level: str | None = None  # of that verification: digests, archive, restored
    ok: bool = True  # False: it did not hold
    backup_row: int | None = None  # number of the event that records the backup
    verify_row: int | None = None  # of the one that records the verification


_STRENGTH = {"digests": 1, "archive": 2, "restored": 3}


def read_backup_record(session: Session) -> BackupRecord:
    """Return the newest backup and the newest verification. Raises LedgerMissing, LedgerFiltered."""
    statement = sql.SQL(
        "SELECT DISTINCT ON (event, details->>'level', details->>'ok') event, at, details->>'level', details->>'ok', id "
        "FROM {}.schema_migrations_log WHERE event IN ('backup', 'verify') "
        "ORDER BY event, details->>'level', details->>'ok', id DESC"
    ).format(sql.Identifier(session.target.ledger_schema))
    return backup_record(log_rows(session, statement, ()))


def backup_record(rows: Sequence[tuple[Any, ...]]) -> BackupRecord:
    """Make the record of the newest events of each kind: (event, at, level, ok, number)."""
    backup = max((row for row in rows if row[0] == "backup"), key=lambda row: row[1], default=None)
    proofs = [row for row in rows if row[0] == "verify"]
    bad = max((row for row in proofs if row[3] != "true"), key=lambda row: row[1], default=None)
    # The strongest proof counts, unless something failed after it.
    good = [row for row in proofs if row[3] == "true" and (bad is None or row[1] > bad[1])]
    verify = max(good, key=lambda row: (_STRENGTH.get(row[2], 0), row[1]), default=bad)
    return BackupRecord(
        taken_at=backup[1] if backup else None,
        verified_at=verify[1] if verify else None,
        level=verify[2] if verify else None,
        ok=verify is None or verify[3] == "true",
        backup_row=backup[4] if backup else None,
        verify_row=verify[4] if verify else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """What the newer rows of an audit log speak of."""

    backups: frozenset[str]  # ids of backups, also of other environments: taken, restored, relied on
    runs: frozenset[str]


def read_references(session: Session, *, days: int) -> References:
    """Return the backups and runs that rows of the last `days` by the server's clock name.

    Raises LedgerMissing, LedgerFiltered.
    """
    statement = sql.SQL(
        "SELECT DISTINCT run_id, details ->> 'backup' FROM {}.schema_migrations_log "
        "WHERE at > pg_catalog.clock_timestamp() - pg_catalog.make_interval(days => %s) AND event <> 'verify'"
    ).format(sql.Identifier(session.target.ledger_schema))
    rows = log_rows(session, statement, (days,))
    return References(
        backups=frozenset(backup for _, backup in rows if backup), runs=frozenset(run for run, _ in rows if run)
    )


def log_rows(session: Session, statement: sql.Composed, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """Run one reading statement on the audit log, with row security off. Raises LedgerMissing, LedgerFiltered."""
    try:
        with guard(session.target), session.connection.transaction():
            session.connection.execute("SET LOCAL row_security = off")
            return session.connection.execute(statement, values).fetchall()
    except psycopg.errors.UndefinedTable:
        raise missing(session) from None
    except psycopg.errors.InsufficientPrivilege:
        if not reads_all_rows(session):
            raise LedgerFiltered(
                target=session.target.name, ledger=session.target.ledger, role=session.facts.current_user
            ) from None
    except psycopg.DataError:
        raise unreadable_rows(session) from None
    with guard(session.target):
        return session.connection.execute(statement, values).fetchall()

"""The audit log: append-only, each row chained to the one before by its hash. Written, read and verified here.

It is tamper-evident, not tamper-proof: its head and length also go into every backup's manifest. No row holds a secret.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from lockstep.errors import LedgerFiltered
from lockstep.postgres.connection import Session, guard
from lockstep.postgres.ledger import missing, reads_all_rows


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


def read_log(session: Session, *, limit: int) -> list[LoggedEvent]:
    """Return the newest rows of the audit log, newest first. Raises LedgerMissing, LedgerFiltered."""
    statement = sql.SQL(
        "SELECT id, at, event, actor, host, run_id, migration_name, version, duration_ms, details "
        "FROM {}.schema_migrations_log ORDER BY id DESC LIMIT %s"
    ).format(sql.Identifier(session.target.ledger_schema))
    rows = _guarded_rows(session, statement, (limit,))
    return [
        LoggedEvent(
            id=r[0], at=r[1], event=r[2], actor=r[3], host=r[4], run_id=r[5], migration_name=r[6], version=r[7],
            duration_ms=r[8], details=r[9],
        )
        for r in rows
    ]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupRecord:
    """What the audit log knows of the target's backups."""

    taken_at: datetime | None = None  # when the newest one was recorded
    verified_at: datetime | None = None  # when one was last verified, whichever
    level: str | None = None  # of that verification: digests, archive, restored
    ok: bool = True  # False: it did not hold


_STRENGTH = {"digests": 1, "archive": 2, "restored": 3}


def read_backup_record(session: Session) -> BackupRecord:
    """Return the newest backup and the newest verification. Raises LedgerMissing, LedgerFiltered."""
    statement = sql.SQL(
        "SELECT DISTINCT ON (event, details->>'level', details->>'ok') event, at, details->>'level', details->>'ok' "
        "FROM {}.schema_migrations_log WHERE event IN ('backup', 'verify') "
        "ORDER BY event, details->>'level', details->>'ok', id DESC"
    ).format(sql.Identifier(session.target.ledger_schema))
    rows = _guarded_rows(session, statement, ())
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
    rows = _guarded_rows(session, statement, (days,))
    return References(
        backups=frozenset(backup for _, backup in rows if backup), runs=frozenset(run for run, _ in rows if run)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """What verifying the audit log's chain gave."""

    length: int  # rows
    head: str  # hash of the newest row; "" when empty
    broken_at: int | None  # id of the first row that does not fit; None: whole


def verify_chain(session: Session) -> Chain:
    """Recompute every hash of the audit log on the server and compare. Raises LedgerMissing, LedgerFiltered."""
    statement = sql.SQL(
        """
        SELECT count(*), coalesce(max(hash) FILTER (WHERE newest), ''), min(id) FILTER (WHERE NOT whole)
          FROM (SELECT l.id, l.hash, row_number() OVER (ORDER BY l.id DESC) = 1 AS newest,
                       -- Not by the database's own function, which somebody may have replaced.
                       l.hash = encode(sha256(convert_to(jsonb_build_array(
                           l.previous_hash, l.id, (extract(epoch FROM l.at) * 1000000)::bigint, l.event, l.actor,
                           l.host, l.run_id, l.orchestrator_url, l.migration_name, l.version, l.duration_ms,
                           l.details)::text, 'UTF8')), 'hex')
                       AND l.id = row_number() OVER (ORDER BY l.id)
                       AND l.previous_hash = coalesce(lag(l.hash) OVER (ORDER BY l.id), '') AS whole
                  FROM {0}.schema_migrations_log l) AS checked
        """
    ).format(sql.Identifier(session.target.ledger_schema))
    length, head, broken = _guarded_rows(session, statement, ())[0]
    return Chain(length=length, head=head, broken_at=broken)


def _guarded_rows(session: Session, statement: sql.Composed, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
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
    with guard(session.target):
        return session.connection.execute(statement, values).fetchall()

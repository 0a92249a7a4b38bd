"""The one way in which rows leave the audit log: the oldest ones, in one transaction, with an anchor in their place.

What must stay is looked up here as well. Whether a prune is wanted, and that its rows are safe elsewhere, is the caller's.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql

from lockstep.core.audit import Needed
from lockstep.errors import LedgerError
from lockstep.postgres.audit import Event, log_rows, read_backup_record, write_event
from lockstep.postgres.connection import Session, guard
from lockstep.postgres.ledger import open_for_writing

PAGE = 2_000  # rows that are held at once
LOCK_TIMEOUT = "5s"  # of the table's lock, which only other writers of the log notice


def last_before(session: Session, before: datetime) -> int:
    """Return the number of the last row of those that are older than `before`, from the beginning on; 0: none is."""
    statement = sql.SQL(
        "SELECT coalesce((SELECT min(id) - 1 FROM {0}.schema_migrations_log WHERE at >= %s), "
        "(SELECT max(id) FROM {0}.schema_migrations_log), 0), coalesce((SELECT min(id) FROM {0}.schema_migrations_log), 0)"
    ).format(sql.Identifier(session.target.ledger_schema))
    last, first = log_rows(session, statement, (before,))[0]
    return last if last >= first else 0


def read_needed(session: Session, *, days: int) -> tuple[Needed, ...]:
    """Return the rows that something still reads, each with the reason. `days`: how long `backups prune` looks back.

    Whoever adds a reader of old rows adds it here. Raises LedgerMissing, LedgerFiltered.
    """
    schema = sql.Identifier(session.target.ledger_schema)
    held = log_rows(session, sql.SQL(_HELD).format(schema), ())
    found = [Needed(number=number, why=f"it holds version {version} back") for number, version in held]
    record = read_backup_record(session)
    if record.backup_row is not None:
        found.append(Needed(number=record.backup_row, why="it is the newest backup, which status shows"))
    if record.verify_row is not None:
        found.append(
            Needed(number=record.verify_row, why="it is the verification that status shows (lockstep backups verify)")
        )
    young = sql.SQL(
        "SELECT min(id) FROM {}.schema_migrations_log "
        "WHERE at > pg_catalog.clock_timestamp() - pg_catalog.make_interval(days => %s)"
    ).format(schema)
    if (number := log_rows(session, young, (days,))[0][0]) is not None:
        why = f"it is younger than {days} days, and may name a backup that is kept for it ([backup] keep)"
        found.append(Needed(number=number, why=why))
    return tuple(found)


def read_undone(session: Session) -> tuple[tuple[int, int], ...]:
    """Return the events that were taken back, each with the one that took it back. Raises as read_needed does."""
    statement = sql.SQL(
        "SELECT u.id, l.id FROM {0}.schema_migrations_log l JOIN {0}.schema_migrations_log u "
        "ON l.details->>'undoes' = u.id::text WHERE l.details ? 'undoes' ORDER BY l.id"
    ).format(sql.Identifier(session.target.ledger_schema))
    return tuple((undone, by) for undone, by in log_rows(session, statement, ()))


def oldest_rows(session: Session, up_to: int) -> Iterator[tuple[Any, ...]]:
    """Give the rows up to that number, oldest first: number, hash, and the whole row as JSON, times in UTC."""
    statement = sql.SQL(
        "SELECT id, hash, (to_jsonb(l) || jsonb_build_object('at', to_char(l.at AT TIME ZONE 'UTC', "
        '\'YYYY-MM-DD"T"HH24:MI:SS.US"Z"\')))::text FROM {}.schema_migrations_log l '
        "WHERE id > %s AND id <= %s ORDER BY id LIMIT %s"
    ).format(sql.Identifier(session.target.ledger_schema))
    after = 0
    while rows := log_rows(session, statement, (after, up_to, PAGE)):
        yield from rows
        after = rows[-1][0]


def cut(session: Session, *, up_to: int, rows: int, last_hash: str, anchor: Event) -> int:
    """Append `anchor` and remove the rows up to `up_to`, in one transaction; return the anchor's number.

    The session holds the target's lock. Raises LedgerError, and nothing was removed, when the rows are not those that
    were counted, or another session keeps the log locked.
    """
    target = session.target
    table = sql.Identifier(target.ledger_schema, "schema_migrations_log")
    try:
        with guard(target), session.connection.transaction():
            open_for_writing(session)
            session.connection.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'".encode())
            session.connection.execute(
                sql.SQL("ALTER TABLE {} DISABLE TRIGGER schema_migrations_log_keep").format(table)
            )
            # First, while there is a row that its own trigger can go on from: perhaps all others go.
            number = write_event(session, anchor)
            removed = session.connection.execute(
                sql.SQL("DELETE FROM {} WHERE id <= %s RETURNING id, hash").format(table), (up_to,)
            ).fetchall()
            if len(removed) != rows or (up_to, last_hash) not in removed:
                raise LedgerError(
                    f"{target.name}: the rows of the audit log changed while they were exported. Nothing was removed.",
                    hint=f"lockstep history {target.environment} --verify",
                )
            session.connection.execute(
                sql.SQL("ALTER TABLE {} ENABLE ALWAYS TRIGGER schema_migrations_log_keep").format(table)
            )
            return number
    except psycopg.errors.LockNotAvailable:
        raise LedgerError(
            f"{target.name}: another session keeps the audit log locked. Nothing was removed.",
            hint="end that session (SELECT pid, query FROM pg_stat_activity), then try again",
        ) from None


# As in read_ledger.sql: the events that hold a version back now.
_HELD = """
SELECT r.id, r.version
  FROM {0}.schema_migrations_log r
 WHERE r.version IS NOT NULL AND r.event IN ('apply', 'repair', 'revert') AND (r.event = 'revert' OR r.details ? 'held')
   AND NOT EXISTS (SELECT FROM {0}.schema_migrations m WHERE m.version = r.version)
   AND NOT EXISTS (SELECT FROM {0}.schema_migrations_log l
                    WHERE l.version = r.version AND l.id > r.id AND l.event IN ('apply', 'repair', 'revert')
                      AND (NOT l.details ? 'undoes' OR l.details ? 'held')
                      AND NOT EXISTS (SELECT FROM {0}.schema_migrations_log u
                                       WHERE u.id > l.id AND u.details->>'undoes' = l.id::text))
"""

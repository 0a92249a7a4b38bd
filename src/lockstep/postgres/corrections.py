"""Corrections of the ledger, each with its trace: the rows before and after it stand in the audit log, whole.

So every correction can be taken back by another one. All of it runs in the caller's transaction, with row security off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from lockstep import __version__
from lockstep.core.ledger import Progress
from lockstep.core.migration import Kind
from lockstep.errors import LedgerError, UsageError
from lockstep.postgres.connection import Session, guard

Image = Mapping[str, Any]  # a whole row of the ledger, as the server's to_jsonb writes it


def image(session: Session, name: str) -> Image | None:
    """Return an entry as it stands, with every column; None when there is none."""
    row = _execute(session, "SELECT to_jsonb(m) FROM {}.schema_migrations m WHERE migration_name = %s", (name,))
    return row[0][0] if row else None


def insert(
    session: Session, name: str, version: int | None, kind: Kind, checksum: str | None, content_digest: str | None
) -> None:
    """Record a migration that did not run through Lockstep here: a baseline, or one that a person ran."""
    _execute(
        session,
        "INSERT INTO {}.schema_migrations (migration_name, version, kind, state, checksum, content_digest, "
        "applied_by, tool_version) VALUES (%s, %s, %s, 'applied', %s, %s, session_user, %s) RETURNING 1",
        (name, version, kind.value, checksum, content_digest, __version__),
    )


def delete(session: Session, name: str) -> None:
    """Take one entry out."""
    _one(session, "DELETE FROM {}.schema_migrations WHERE migration_name = %s RETURNING 1", (name,))


def settle(session: Session, name: str, *, checksum: str | None, content_digest: str | None) -> None:
    """Record that an entry is applied whole, and of which text."""
    _one(
        session,
        "UPDATE {}.schema_migrations SET checksum = %s, content_digest = %s, state = 'applied', verified = true, "
        "progress = NULL, statements_done = statements_total WHERE migration_name = %s RETURNING 1",
        (checksum, content_digest, name),
    )


def set_progress(session: Session, name: str, progress: Progress, statements_done: int) -> None:
    """Record how far an entry that was begun has come."""
    _one(
        session,
        "UPDATE {}.schema_migrations SET progress = %s, statements_done = %s WHERE migration_name = %s RETURNING 1",
        (Jsonb(asdict(progress)), statements_done, name),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What a correction in the audit log changed."""

    event: str  # repair, baseline
    version: int | None
    what: str
    before: tuple[Image, ...]
    after: tuple[Image, ...]
    hold: Image | None  # the hold that it lifted


def read_trace(session: Session, number: int) -> Trace:
    """Return what the correction with this number in the audit log changed. Raises UsageError when it is none."""
    rows = _execute(
        session,
        "SELECT event, version, details FROM {}.schema_migrations_log "
        "WHERE id = %s AND event IN ('repair', 'baseline') AND details ? 'after'",
        (number,),
    )
    if not rows:
        raise UsageError(
            f"{session.target.name}: event {number} of the audit log is no correction that could be taken back",
            hint=f"lockstep history {session.target.environment} shows their numbers",
        )
    event, version, details = rows[0]
    return Trace(
        event=event,
        version=version,
        what=details.get("what", event),
        before=tuple(details["before"]),
        after=tuple(details["after"]),
        hold=details.get("hold"),
    )


def restore(session: Session, trace: Trace) -> None:
    """Put back the rows from before a correction. Raises LedgerError when they are not as it left them any more."""
    for row in trace.after:
        if image(session, row["migration_name"]) != row:
            raise LedgerError(
                f"{session.target.name}: {row['migration_name']} was changed since; nothing was corrected.",
                hint=f"lockstep history {session.target.environment}: take back what came later first",
            )
        delete(session, row["migration_name"])
    for row in trace.before:
        if not trace.after and image(session, row["migration_name"]) is not None:
            raise LedgerError(
                f"{session.target.name}: {row['migration_name']} is in the ledger again; nothing was corrected."
            )
        _execute(
            session,
            "INSERT INTO {0}.schema_migrations SELECT * FROM jsonb_populate_record(NULL::{0}.schema_migrations, %s) RETURNING 1",
            (Jsonb(row),),
        )


def _one(session: Session, text: str, values: tuple[Any, ...]) -> None:
    if len(_execute(session, text, values)) != 1:
        raise LedgerError(f"{session.target.name}: the ledger changed meanwhile; nothing was corrected.")


def _execute(session: Session, text: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    with guard(session.target):
        statement = sql.SQL(text).format(sql.Identifier(session.target.ledger_schema))
        return session.connection.execute(statement, values).fetchall()

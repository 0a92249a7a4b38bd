"""Corrections of the ledger, each with its trace: the rows before and after it stand in the audit log, whole.

So every correction can be taken back by another one. All of it runs in the caller's transaction, with row security off.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from lockstep import __version__
from lockstep.core.correction import Touched
from lockstep.core.ledger import Progress
from lockstep.core.migration import Kind
from lockstep.errors import LedgerError, UsageError
from lockstep.postgres.connection import Session, guard

#: What is left where nothing can be taken back.
CORRECTED = "--record, --forget or --accept corrects it"

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

    number: int  # its id
    event: str  # repair, baseline
    name: str | None  # of the one migration that it is about; None: of several
    version: int | None  # likewise
    before: tuple[Image, ...]
    after: tuple[Image, ...]
    hold: Image | None  # the hold that it lifted

    @property
    def touched(self) -> Touched:
        """The rows that it is about."""
        rows = (*self.before, *self.after)
        names = {self.name, *(row["migration_name"] for row in rows)}
        versions = {self.version, *(row["version"] for row in rows)}
        return Touched(
            number=self.number,
            event=self.event,
            names=frozenset(name for name in names if name is not None),
            versions=frozenset(version for version in versions if version is not None),
            repeatables=any(row["version"] is None for row in rows),
        )


def read_trace(session: Session, number: int) -> Trace:
    """Return what the correction with this number in the audit log changed. Raises UsageError when it is none."""
    rows = _execute(
        session,
        "SELECT event, migration_name, version, details FROM {}.schema_migrations_log "
        "WHERE id = %s AND event IN ('repair', 'baseline') AND details ? 'after'",
        (number,),
    )
    if not rows:
        first = _execute(session, "SELECT min(id) FROM {}.schema_migrations_log", ())[0][0]
        if first is not None and 0 < number < first:
            raise UsageError(
                f"{session.target.name}: event {number} was pruned from the audit log, so it cannot be taken back; {CORRECTED}",
                hint=f"lockstep history {session.target.environment} --event prune tells where it was exported to",
            )
        raise UsageError(
            f"{session.target.name}: event {number} of the audit log is no correction that could be taken back",
            hint=f"lockstep history {session.target.environment} shows their numbers",
        )
    event, name, version, details = rows[0]
    if not all(_are_rows(details.get(side)) for side in ("before", "after")):
        raise UsageError(
            f"{session.target.name}: event {number} of the audit log does not say which rows it changed: no Lockstep wrote it",
            hint=CORRECTED,
        )
    return Trace(
        number=number,
        event=event,
        name=name,
        version=version,
        before=tuple(details["before"]),
        after=tuple(details["after"]),
        hold=hold if isinstance(hold := details.get("hold"), dict) else None,
    )


def _are_rows(found: object) -> bool:
    """Whether it is a list of ledger rows, as a correction keeps them."""
    return isinstance(found, list) and all(
        isinstance(row, dict)
        and isinstance(row.get("migration_name"), str)
        and isinstance(row.get("version", ""), int | None)
        for row in found
    )


def read_later(session: Session, number: int) -> tuple[Touched, ...]:
    """Return the events after this one that changed rows. A try that failed left its row to its `start` or `resume`."""
    rows = _execute(
        session,
        "SELECT id, event, migration_name, version, details->>'undoes' FROM {}.schema_migrations_log "
        "WHERE id > %s AND event IN ('start', 'resume', 'apply', 'revert', 'heal', 'repair', 'baseline') ORDER BY id",
        (number,),
    )
    return tuple(
        Touched(
            number=id_,
            event=event,
            names=frozenset({name} - {None}),
            versions=frozenset({version} - {None}),
            undoes=int(undoes) if undoes is not None and re.fullmatch("[0-9]{1,18}", undoes) else None,
        )
        for id_, event, name, version, undoes in rows
    )


def restore(session: Session, trace: Trace) -> None:
    """Put back the rows from before a correction. Raises LedgerError when they are not as it left them any more."""
    for row in trace.after:
        there = image(session, row["migration_name"])
        # Which fingerprint an entry is kept with is not a correction's to say: the next state moves it.
        if there is None or _content(there) != _content(row):
            raise LedgerError(
                f"{session.target.name}: {row['migration_name']} is not as event {trace.number} left it, and the audit log "
                "does not say why; nothing was corrected.",
                hint=f"lockstep status {session.target.environment} shows what is true now; {CORRECTED}",
            )
        delete(session, row["migration_name"])
    for row in trace.before:
        taken = _execute(
            session,
            "SELECT migration_name FROM {}.schema_migrations WHERE migration_name = %s OR version = %s",
            (row["migration_name"], row["version"]),
        )
        if taken:
            raise LedgerError(
                f"{session.target.name}: {taken[0][0]} is in the ledger in place of {row['migration_name']}, and the audit "
                "log does not say why; nothing was corrected.",
                hint=f"lockstep repair {session.target.environment} --forget {row['version'] or taken[0][0]}",
            )
        _put(session, row)


def _content(row: Image) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "fingerprint_after"}


def _put(session: Session, row: Image) -> None:
    try:
        _execute(
            session,
            "INSERT INTO {0}.schema_migrations SELECT * FROM jsonb_populate_record(NULL::{0}.schema_migrations, %s) RETURNING 1",
            (Jsonb(row),),
        )
    except psycopg.errors.IntegrityError as error:
        raise LedgerError(
            f"{session.target.name}: {row['migration_name']} cannot be put back: {error.diag.constraint_name} of the ledger "
            "refuses it; nothing was corrected.",
            hint=f"lockstep status {session.target.environment} shows what is true now; {CORRECTED}",
        ) from None


def _one(session: Session, text: str, values: tuple[Any, ...]) -> None:
    if len(_execute(session, text, values)) != 1:
        raise LedgerError(f"{session.target.name}: the ledger changed meanwhile; nothing was corrected.")


def _execute(session: Session, text: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    with guard(session.target):
        statement = sql.SQL(text).format(sql.Identifier(session.target.ledger_schema))
        return session.connection.execute(statement, values).fetchall()

"""What the audit log says of where a target stands: its backups, its newest rehearsal, requests for approval. Read-only.

One message, so one round trip: `status` is asked often, and over slow lines. It judges nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg
from psycopg import sql

from lockstep.core.approval import ANSWERS, ASK, BEGIN, RESTORE
from lockstep.errors import LedgerFiltered
from lockstep.postgres.audit import BackupRecord, backup_record
from lockstep.postgres.connection import Session, guard
from lockstep.postgres.ledger import locked, missing, query, reads_all_rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsed:
    """The newest rehearsal of a target."""

    at: datetime
    run_id: str | None
    outcome: str  # passed, failed, could not verify
    headline: str = ""  # its worst blocking window, in words; "" for none


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the log says."""

    backups: BackupRecord
    rehearsed: Rehearsed | None
    approvals: tuple[tuple[Any, ...], ...] = ()  # rows as service.approval.records reads them, oldest first
    starters: Mapping[str, frozenset[str]] = field(default_factory=dict)  # run id -> roles that started it


def read_standing(session: Session) -> Standing:
    """Read it in one round trip. Raises LedgerMissing, LedgerFiltered, Unreachable."""
    try:
        return _read(session, "off")
    except psycopg.errors.UndefinedTable:
        raise missing(session) from None
    except psycopg.errors.LockNotAvailable:
        raise locked(session) from None
    except psycopg.errors.InsufficientPrivilege:
        try:
            if reads_all_rows(session):
                return _read(session, "on")
        except psycopg.errors.InsufficientPrivilege:
            pass  # the ledger may be read, and its log may not
        raise LedgerFiltered(
            target=session.target.name, ledger=session.target.ledger, role=session.facts.current_user
        ) from None


def _read(session: Session, row_security: str) -> Standing:
    text = query(
        "standing",
        session,
        row_security=sql.SQL(row_security),
        events=sql.Literal([ASK, RESTORE, *ANSWERS]),
        begin=sql.Literal(BEGIN),
        ask=sql.Literal(ASK),
    )
    results: list[list[tuple[Any, ...]]] = []
    try:
        with guard(session.target):
            cursor = session.connection.execute(text)
            while True:
                if cursor.description is not None:
                    results.append(cursor.fetchall())
                if not cursor.nextset():
                    break
    except psycopg.Error:
        if not session.connection.closed and not session.idle:
            session.connection.execute("ROLLBACK")
        raise
    backups, rehearsals, approvals, begun = results
    starters: dict[str, set[str]] = {}
    for run_id, actor in begun:
        starters.setdefault(run_id, set()).add(actor)
    return Standing(
        backups=backup_record(backups),
        rehearsed=_rehearsed(rehearsals[0]) if rehearsals else None,
        approvals=tuple(reversed(approvals)),
        starters={run_id: frozenset(roles) for run_id, roles in starters.items()},
    )


def _rehearsed(row: tuple[Any, ...]) -> Rehearsed:
    worst = row[3] if isinstance(row[3], dict) else {}
    words = ""
    if isinstance(worst.get("ms"), int):
        words = f"worst blocking window {worst['ms']} ms on {worst.get('relation')} ({worst.get('mode')})"
    return Rehearsed(at=row[0], run_id=row[1], outcome=str(row[2] or "could not verify"), headline=words)

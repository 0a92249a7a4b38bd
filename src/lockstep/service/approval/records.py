"""Requests and answers as rows of a target's audit log: read, and written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import sql

from lockstep.core.approval import (
    ANSWERS,
    ASK,
    BEGIN,
    EVENTS,
    MOVING,
    RESTORE,
    Answer,
    Approval,
    How,
    Request,
    Standing,
    how_it_stands,
)
from lockstep.core.audit import text_of
from lockstep.errors import ApprovalRefused
from lockstep.postgres.audit import Event, log_rows, write_event
from lockstep.postgres.connection import Session
from lockstep.postgres.entries import RunInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """What a log holds about approvals, oldest request first."""

    now: datetime  # of the server's clock
    approvals: tuple[Approval, ...]

    def open(self) -> tuple[Approval, ...]:
        """Return what has no answer: it waits, or has expired and that is not logged yet."""
        return tuple(one for one in self.approvals if one.answer is None)

    def of(self, run_id: str) -> tuple[Approval, ...]:
        return tuple(one for one in self.approvals if one.request.run_id == run_id)

    def at(self, row: int) -> Approval | None:
        return next((one for one in self.approvals if one.request.row == row), None)


def read_records(session: Session, *, run_id: str | None = None, of: Request | None = None) -> Records:
    """Read all requests and answers, those of a run, or those of one request.

    What was asked before a restore is left out: that was asked of another database. So are rows that no code of ours
    wrote: who may answer can append any details, and none of them may keep others from being read.
    Raises LedgerMissing, LedgerFiltered, Unreachable.
    """
    statement = sql.SQL(
        "SELECT id, at, event, actor, run_id, details, pg_catalog.clock_timestamp(), orchestrator_url FROM {}.schema_migrations_log "
        "WHERE event = ANY (%s) AND id >= %s AND (%s::text IS NULL OR run_id = %s OR event = %s) ORDER BY id"
    ).format(sql.Identifier(session.target.ledger_schema))
    run_id = of.run_id if of else run_id
    rows = log_rows(session, statement, ([ASK, RESTORE, *ANSWERS], of.row if of else 0, run_id, run_id, RESTORE))
    two = [one.run_id for row in rows if row[2] == ASK and (one := _request(row)) is not None and one.two_person]
    return records_of(rows, _starters(session, two), now=rows[-1][6] if rows else _now(session))


def records_of(rows: Sequence[tuple[Any, ...]], starters: Mapping[str, Iterable[str]], *, now: datetime) -> Records:
    """Make records of the log's rows, oldest first, and of the roles that started the runs."""
    restored = max((row[0] for row in rows if row[2] == RESTORE), default=0)
    answers = [given for row in rows if row[2] in ANSWERS and (given := _answer(row)) is not None]
    requests = [one for row in rows if row[2] == ASK and row[0] > restored and (one := _request(row)) is not None]
    return Records(
        now=now,
        approvals=tuple(
            how_it_stands(one, answers, now=now, starters=starters.get(one.run_id, ())) for one in requests
        ),
    )


def write_answer(
    session: Session,
    run: RunInfo,
    request: Request,
    standing: Standing,
    *,
    how: How,
    by: str,
    reason: str | None,
) -> int:
    """Append an answer to the log; return its row. Raises ApprovalRefused where the role may not write it."""
    details: dict[str, object] = {
        "ask": request.row,
        "environment": request.environment,
        "plan": request.plan_digest,
        "changes": request.change_digest,
        "how": how.value,
        "by": by,
    }
    if reason:
        details["reason"] = reason
    event = Event(event=EVENTS[standing], run_id=request.run_id, orchestrator_url=run.orchestrator_url, details=details)
    try:
        return write_event(session, event)
    except psycopg.errors.InsufficientPrivilege:
        raise ApprovalRefused(
            f"{session.target.name}: {session.facts.current_user} may not write the audit log, where an answer is kept",
            hint=f"name the role, or one it belongs to, as approvers under [approval], then run as the ledger's owner: "
            f"lockstep init {request.environment}",
        ) from None


def write_request(session: Session, run: RunInfo, details: Mapping[str, Any]) -> int:
    """Append a request to the log; return its row."""
    return write_event(
        session, Event(event=ASK, run_id=run.run_id, orchestrator_url=run.orchestrator_url, details=details)
    )


def moved_since(session: Session, request: Request) -> str | None:
    """Return what changed the ledger or its schema since a request, in words; None: nothing that was logged."""
    statement = sql.SQL(
        "SELECT event, coalesce(migration_name, ''), coalesce(run_id, '') FROM {}.schema_migrations_log "
        "WHERE id > %s AND event = ANY (%s) ORDER BY id LIMIT 1"
    ).format(sql.Identifier(session.target.ledger_schema))
    found = log_rows(session, statement, (request.row, list(MOVING)))
    if not found:
        return None
    event, file, run_id = found[0]
    return " ".join(part for part in (f"run {run_id}:" if run_id else "", event, file) if part)


# -- inside ------------------------------------------------------------------------------------------------------------


def _now(session: Session) -> datetime:
    row = session.connection.execute("SELECT pg_catalog.clock_timestamp()").fetchone()
    assert row is not None
    found: datetime = row[0]
    return found


def _starters(session: Session, run_ids: list[str]) -> Mapping[str, set[str]]:
    """The database roles that started runs, where they could say so."""
    found: dict[str, set[str]] = {}
    if run_ids:
        statement = sql.SQL(
            "SELECT DISTINCT run_id, actor FROM {}.schema_migrations_log WHERE event = %s AND run_id = ANY (%s)"
        ).format(sql.Identifier(session.target.ledger_schema))
        for run_id, actor in log_rows(session, statement, (BEGIN, run_ids)):
            found.setdefault(run_id, set()).add(actor)
    return found


def _request(row: tuple[Any, ...]) -> Request | None:
    """Return a request; None: no code of ours wrote it."""
    try:
        details: Mapping[str, Any] = row[5]
        return Request(
            row=row[0],
            at=row[1],
            run_id=row[4] or "",
            attempt=int(details.get("attempt", 1)),
            environment=str(details.get("environment", "")),
            plan_digest=str(details.get("plan", "")),
            change_digest=text_of(details, "changes"),
            expires_at=datetime.fromisoformat(details["expires_at"]).astimezone(UTC),
            role=row[3],
            by=str(details.get("by", "")),
            flow_run=text_of(details, "flow_run"),
            what=tuple(str(one) for one in details.get("files", ())),
            headline=str(details.get("headline", "")),
            backup=text_of(details, "backup"),
            two_person=bool(details.get("two_person", False)),
            schema_token=text_of(details, "schema_token"),
            overridden=text_of(details, "overridden"),
            url=row[7],
        )
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        return None


def _answer(row: tuple[Any, ...]) -> Answer | None:
    """Return an answer; None: no code of ours wrote it."""
    try:
        details: Mapping[str, Any] = row[5]
        return Answer(
            row=row[0],
            request=int(details.get("ask", 0)),
            at=row[1],
            standing=ANSWERS[row[2]],
            role=row[3],
            by=str(details.get("by", "")),
            how=How(details.get("how", How.FORM.value)),
            reason=text_of(details, "reason"),
            plan_digest=str(details.get("plan", "")),
            change_digest=text_of(details, "changes"),
        )
    except (AttributeError, TypeError, ValueError, OverflowError):
        return None

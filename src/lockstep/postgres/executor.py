"""Runs composed messages on a work session and explains what the server says about them.

Holds no rule about what should run. The failing statement is found by counting completed results, since most failures
(constraint violations) carry no position; a position, where given, refines it to the column.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
from psycopg import generators
from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.pq.abc import PGresult

from lockstep.core.text import excerpt, line_and_column
from lockstep.errors import MigrationFailed, Unreachable
from lockstep.postgres.connection import Session, guard, redact
from lockstep.postgres.message import Message, Part, Segment, reset_sql

#: Lock not available, deadlock: the whole transaction was rolled back and may simply run again.
RETRYABLE = frozenset({"55P03", "40P01"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A message that committed."""

    duration_ms: int  # wall time at this end
    tries: int  # 1 when no lock was in the way
    session_is_clean: bool  # False: the file took advisory locks, or the reset after COMMIT did not go through


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerError:
    """What the server reported, taken apart."""

    sqlstate: str
    primary: str
    detail: str | None
    hint: str | None
    context: str | None  # PL/pgSQL call stack
    constraint: str | None
    position: int | None  # character in the message, from 1
    at_commit: bool
    segment: Segment | None  # the script's run of statements that it belongs to; None: our own statements
    statement: int | None  # index of the script's statement, from 0


def run_message(
    session: Session,
    message: Message,
    *,
    done_before: int,
    total: int,
    waiting: Callable[[int, str], None] | None = None,
) -> Done:
    """Send one message; retry the whole transaction on lock timeouts and deadlocks within the target's budget.

    `done_before` and `total` count the run's steps, for the message about what was done. Raises MigrationFailed (the
    transaction was rolled back, the session is clean again) and Unreachable (the connection was lost: the ledger tells
    whether the step was committed).
    """
    started = time.monotonic()
    budget = session.target.retry_budget_ms / 1_000
    tries = 0
    while True:
        tries += 1
        session.send_settings()
        results: list[PGresult] = []
        error: ServerError | None = None
        for part in message.parts:
            results = _send(session, part.text)
            error = _first_error(results, part)
            if error is not None:
                break
        if error is None:
            elapsed = round((time.monotonic() - started) * 1_000)
            return Done(duration_ms=elapsed, tries=tries, session_is_clean=_is_clean(results[-1]))
        clean(session)
        pause = min(0.1 * 2 ** min(tries, 6), 5.0) * random.uniform(0.5, 1.5)  # jitter, no secret
        if error.sqlstate not in RETRYABLE or time.monotonic() - started + pause > budget:
            raise explain(session, message, error, done_before=done_before, total=total, tries=tries)
        if waiting is not None:
            waiting(tries, error.primary)
        time.sleep(pause)


def _send(session: Session, text: str) -> list[PGresult]:
    """Send one simple-query message and return all results. psycopg's wait turns Ctrl-C into a cancel request."""
    connection = session.connection
    try:
        with guard(session.target), connection.lock:
            connection.pgconn.send_query(text.encode())
            results: list[PGresult] = connection.wait(generators.execute(connection.pgconn))
    except psycopg.OperationalError as error:
        raise Unreachable(target=session.target.name, reason=redact(str(error), session.target).strip()) from None
    if connection.closed:
        first = results[-1].error_message.decode(errors="replace").strip().splitlines() if results else []
        reason = redact(first[0], session.target) if first else "the connection was lost"
        raise Unreachable(
            target=session.target.name,
            reason=f"the connection was lost while a migration ran: {reason}",
            hint=f"lockstep status {session.target.environment} shows whether it was committed",
        )
    return results


def _is_clean(last: PGresult) -> bool:
    """The reset's last statement counts the session's advisory locks: the run's own, and nothing else."""
    return last.status == ExecStatus.TUPLES_OK and last.get_value(0, 0) == b"1"


def clean(session: Session) -> None:
    """Bring the session back after a failed message: roll back, reset what a file may have left."""
    with guard(session.target):
        if not session.idle:
            session.connection.execute("ROLLBACK")
        session.connection.execute(";".join(reset_sql(session.target, session.baseline, session.connection)).encode())


def _first_error(results: list[PGresult], part: Part) -> ServerError | None:
    """Return the error of a part; None when it did what it should, which for the last part is: it committed.

    Only results with a command tag belong to our statements: a rule's extra queries return results without one.
    """
    index = 0
    committed = False
    for result in results:
        if result.status == ExecStatus.FATAL_ERROR:
            # After COMMIT's own completion nothing counts as a failed migration.
            return None if committed else _server_error(result, index, part)
        if not result.command_status:
            continue
        committed = committed or result.command_status == b"COMMIT"
        if result.status == ExecStatus.TUPLES_OK and (error := _unverified(result, index, part)):
            return error
        index += 1
    if part.to_commit is not None and not committed:
        raise AssertionError(f"{part.to_commit} statements up to COMMIT, and it was not among {index} results")
    return None


def _segment_at(part: Part, index: int) -> Segment | None:
    return next((s for s in part.segments if s.index <= index < s.index + s.count), None)


def _unverified(result: PGresult, index: int, part: Part) -> ServerError | None:
    """A verify script's boolean result that is not true (false or null), as an error."""
    segment = _segment_at(part, index)
    if segment is None or not segment.verifies:
        return None
    for column in range(result.nfields):
        if result.ftype(column) != _BOOL:
            continue
        for row in range(result.ntuples):
            value = result.get_value(row, column)
            if value != b"t":
                name = (result.fname(column) or b"?").decode(errors="replace")
                return ServerError(
                    sqlstate="P0004",  # assert_failure
                    primary=f"verify: {name} is {'null' if value is None else 'false'}, and must be true",
                    detail=None,
                    hint=None,
                    context=None,
                    constraint=None,
                    position=None,
                    at_commit=False,
                    segment=segment,
                    statement=segment.first + index - segment.index,
                )
    return None


_BOOL = 16  # pg_type's OID of boolean


def _server_error(result: PGresult, index: int, part: Part) -> ServerError:
    def text(field: DiagnosticField) -> str | None:
        raw = result.error_field(field)
        return raw.decode(errors="replace") if raw else None

    shown = text(DiagnosticField.STATEMENT_POSITION)
    position = int(shown) if shown else None
    segment = _segment_at(part, index)
    if segment is None and index == 0 and position is not None:
        # A syntax error stops the whole message before its first statement: only the position tells where.
        segment = next((s for s in reversed(part.segments) if s.part_start <= position - 1), None)
    inside = segment is not None and segment.index <= index < segment.index + segment.count
    return ServerError(
        sqlstate=text(DiagnosticField.SQLSTATE) or "XX000",
        primary=text(DiagnosticField.MESSAGE_PRIMARY) or "",
        detail=text(DiagnosticField.MESSAGE_DETAIL),
        hint=text(DiagnosticField.MESSAGE_HINT),
        context=text(DiagnosticField.CONTEXT),
        constraint=text(DiagnosticField.CONSTRAINT_NAME),
        position=position,
        at_commit=part.to_commit is not None and index == part.to_commit - 1,
        segment=segment,
        statement=segment.first + index - segment.index if segment is not None and inside else None,
    )


def explain(
    session: Session, message: Message, error: ServerError, *, done_before: int, total: int, tries: int
) -> MigrationFailed:
    """Build the error a person reads: place, excerpt with caret, the server's words, what was and was not done."""
    segment = error.segment
    script = segment.script if segment else message.script
    source = script.text
    line: int | None = None
    column: int | None = None
    offset = None
    if segment is not None and error.position is not None:
        offset = error.position - 1 - segment.part_start + segment.text_start
    if offset is not None and 0 <= offset <= len(source):
        line, column = line_and_column(source, offset)
    elif error.statement is not None:
        line, _ = line_and_column(source, script.statements[error.statement].start)
    place = ":".join(str(part) for part in (script.file, line, column) if part is not None)
    primary = redact(error.primary, session.target)
    if error.at_commit:
        what = f"deferred constraint {error.constraint}: {primary}" if error.constraint else f"at COMMIT: {primary}"
    elif segment is None:
        what = f"after the file's last statement: {primary}"
    else:
        what = primary
    lines = [f"{session.target.name}: {place}: {what} (SQLSTATE {error.sqlstate})"]
    if line is not None:
        lines.append(excerpt(source, line, column))
    for label, part in (("hint", error.hint), ("context", error.context)):
        if part:
            lines.append(f"  {label}: {redact(part, session.target)}")
    count = len(script.statements)
    if error.statement is not None and count > 1:
        lines.append(f"  statement {error.statement + 1} of {count}")
    if tries > 1:
        lines.append(f"  tried {tries} times")
    outcome = outcome_text(message.script.file, done_before, total)
    lines.append(outcome)
    return MigrationFailed(
        "\n".join(lines),
        target=session.target.name,
        file=script.file,
        line=line,
        sqlstate=error.sqlstate,
        outcome=outcome,
        # The server shortens values in DETAIL, so a secret's beginning could pass the redaction: not with settings.
        detail=redact(error.detail, session.target) if error.detail and not session.target.settings else None,
        hint=_HINTS.get(error.sqlstate),  # else the caller knows what comes next
    )


def outcome_text(file: str, done_before: int, total: int) -> str:
    """What was and was not done, in one sentence."""
    name = file.rsplit("/", 1)[-1].removesuffix(".sql")
    rest = total - done_before - 1
    after = f"; {rest} after it not started" if rest else ""
    return f"{done_before} of {total} done; {name} rolled back, nothing of it stayed{after}."


_HINTS = {
    "55P03": "another session holds a lock that it needs; try again when it is quiet, or raise lock_timeout in the file's head",
    "40P01": "a deadlock with another session; try again when it is quiet",
    "2D000": "COMMIT inside DO or a procedure cannot run in a transaction: run it by hand, and record it with lockstep repair",
    "25001": "this statement cannot run in a transaction: run it by hand, and record it with lockstep repair",
    "55P04": "a new enum value can be used only after its own transaction: put its use into the next migration",
    "42501": "the role lacks a privilege: set role = … for this environment, or grant it",
    "57014": "it ran into statement_timeout or was cancelled; raise statement_timeout in the file's head",
}

"""What the server says about a message that failed, taken apart and put into words: place, excerpt, what was done."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg.pq import DiagnosticField
from psycopg.pq.abc import PGresult

from lockstep.core import privacy
from lockstep.core.text import excerpt, line_and_column
from lockstep.errors import Failing, MigrationFailed
from lockstep.postgres.connection import Session, redact
from lockstep.postgres.message import LEDGER_GONE, LOCK_LOST, Message, Part, Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerError:
    """What the server reported, taken apart."""

    sqlstate: str
    primary: str
    detail: str | None = None
    hint: str | None = None
    context: str | None = None  # PL/pgSQL call stack
    schema: str | None = None  # of what the server names: table, column, constraint
    table: str | None = None
    column: str | None = None
    constraint: str | None = None
    source: str | None = None  # file of the server's source that reports it: aclchk.c
    position: int | None = None  # character in the message, from 1
    at_commit: bool = False
    segment: Segment | None = None  # the script's run of statements that it belongs to; None: our own statements
    statement: int | None = None  # index of the script's statement, from 0


def of_result(result: PGresult, index: int, part: Part) -> ServerError:
    """Take an error result apart. `index` counts the part's statements that completed before it."""

    def text(field: DiagnosticField) -> str | None:
        raw = result.error_field(field)
        return raw.decode(errors="replace") if raw else None

    shown = text(DiagnosticField.STATEMENT_POSITION)
    position = int(shown) if shown else None
    segment = next((s for s in part.segments if s.index <= index < s.index + s.count), None)
    if segment is None and index == 0 and position is not None:
        # A syntax error stops the whole message before its first statement: only the position tells where.
        segment = next((s for s in reversed(part.segments) if s.part_start <= position - 1), None)
    inside = segment is not None and segment.index <= index < segment.index + segment.count
    primary = text(DiagnosticField.MESSAGE_PRIMARY) or ""
    if segment is None and (ours := next((words for words in (LOCK_LOST, LEDGER_GONE) if words in primary), None)):
        return ServerError(sqlstate=_NOT_AS_IT_SHOULD_BE, primary=ours)
    return ServerError(
        sqlstate=text(DiagnosticField.SQLSTATE) or "XX000",
        primary=primary,
        detail=text(DiagnosticField.MESSAGE_DETAIL),
        hint=text(DiagnosticField.MESSAGE_HINT),
        context=text(DiagnosticField.CONTEXT),
        source=text(DiagnosticField.SOURCE_FILE),
        schema=text(DiagnosticField.SCHEMA_NAME),
        table=text(DiagnosticField.TABLE_NAME),
        column=text(DiagnosticField.COLUMN_NAME),
        constraint=text(DiagnosticField.CONSTRAINT_NAME),
        position=position,
        at_commit=part.to_commit is not None and index == part.to_commit - 1,
        segment=segment,
        statement=segment.first + index - segment.index if segment is not None and inside else None,
    )


_NOT_AS_IT_SHOULD_BE = "55000"  # object_not_in_prerequisite_state
_BOOL = 16  # pg_type's OID of boolean


def unverified(result: PGresult, index: int, segment: Segment) -> ServerError | None:
    """Return a verify script's boolean result that is not true (false or null), as an error."""
    for column in range(result.nfields):
        if result.ftype(column) != _BOOL:
            continue
        for row in range(result.ntuples):
            value = result.get_value(row, column)
            if value != b"t":
                name = (result.fname(column) or b"?").decode(errors="replace") if privacy.quoting() else "a result"
                return ServerError(
                    sqlstate="P0004",  # assert_failure
                    primary=f"verify: {name} is {'null' if value is None else 'false'}, and must be true",
                    segment=segment,
                    statement=segment.first + index - segment.index,
                )
    return None


def condition(sqlstate: str | None) -> str:
    """Return what a SQLSTATE means, in PostgreSQL's own name of it: `unique violation`. It quotes nothing."""
    try:
        name = psycopg.errors.lookup(sqlstate or "").__name__
    except KeyError:
        return "an error"
    return re.sub(r"(?<!^)(?=[A-Z])", " ", name).lower()


def words(session: Session, error: ServerError) -> str:
    """Return the server's message without secrets; where nothing may be quoted its meaning, and the names it gives."""
    if privacy.quoting():
        return redact(error.primary, session.target)
    if error.primary in (LOCK_LOST, LEDGER_GONE):
        return error.primary  # our own words
    table = f"{error.schema}.{error.table}" if error.schema and error.table else error.table
    named = {"constraint": error.constraint, "table": table, "column": error.column}
    names = ", ".join(f"{kind} {name}" for kind, name in named.items() if name)
    return f"{condition(error.sqlstate)} ({names})" if names else condition(error.sqlstate)


def said(error: psycopg.Error, session: Session) -> str:
    """The same of an error that psycopg raised."""
    diag = error.diag
    return words(session, ServerError(
        sqlstate=error.sqlstate or "", primary=diag.message_primary or type(error).__name__, schema=diag.schema_name,
        table=diag.table_name, column=diag.column_name, constraint=diag.constraint_name,
    ))  # fmt: skip


def _functions(context: str) -> str:
    """The lines of a context that name a function and its line. What else is there quotes: statements, COPY's rows."""
    return "\n  ".join(line for line in context.splitlines() if re.match(r".{0,20}PL/\w+\b|SQL function ", line))


def explain(
    session: Session,
    message: Message,
    error: ServerError,
    *,
    outcome: str,
    tries: int = 1,
    waited_for: Sequence[str] = (),
    cancelled: str | None = None,
) -> MigrationFailed:
    """Build the error a person reads: place, excerpt with caret, the server's words, what was and was not done."""
    segment = error.segment
    script = segment.script if segment else message.script
    line, column = _place(error, script.text, segment)
    place = ":".join(str(part) for part in (script.file, line, column) if part is not None)
    primary = words(session, error)
    if error.at_commit:
        what = f"deferred constraint {error.constraint}: {primary}" if error.constraint else f"at COMMIT: {primary}"
    elif segment is None:
        what = f"after the file's last statement: {primary}"
    else:
        what = primary
    lines = [f"{session.target.name}: {place}: {what} (SQLSTATE {error.sqlstate})"]
    if line is not None and (quoted := excerpt(script.text, line, column)) is not None:
        lines.append(redact(quoted, session.target))
    for label, part in (("hint", error.hint), ("context", _functions(error.context or ""))):
        if part and privacy.quoting():
            lines.append(f"  {label}: {redact(part, session.target)}")
    # The server shortens values in DETAIL, so a secret's beginning could pass the redaction: not with settings.
    detailed = privacy.quoting() and not session.target.settings
    source = (error.source or "").rpartition("/")[2]
    count = len(script.statements)
    if error.statement is not None and count > 1:
        lines.append(f"  statement {error.statement + 1} of {count}")
    if cancelled:
        lines.append(f"  cancelled: {cancelled}")
    if tries > 1:
        lines.append(f"  tried {tries} times")
    if waited_for:
        lines.append(f"  in the way: {', '.join(waited_for)}")
    lines.append(outcome)
    return MigrationFailed(
        "\n".join(lines),
        target=session.target.name,
        file=script.file,
        line=line,
        sqlstate=error.sqlstate,
        outcome=outcome,
        detail=redact(error.detail, session.target) if error.detail and detailed else None,
        failing=Failing(
            primary=primary,
            statement=error.statement,
            at_commit=error.at_commit,
            in_code=bool(error.context),
            looked_up=source in _LOOK_UPS,
            source=source,
            schema=error.schema,
            table=error.table,
            column=error.column,
            constraint=error.constraint,
        ),
        hint=_hint(error.sqlstate, cancelled, bool(waited_for)),  # None: the caller knows what comes next
    )


#: Where the server looks up names and rights. What code raises, whatever its SQLSTATE, comes from elsewhere (pl_exec.c).
_LOOK_UPS = frozenset(
    {
        "acl.c", "aclchk.c", "functioncmds.c", "indexcmds.c", "lsyscache.c", "namespace.c", "objectaddress.c",
        "parse_func.c", "parse_oper.c", "parse_relation.c", "parse_target.c", "parse_type.c", "parse_utilcmd.c",
        "schemacmds.c", "tablecmds.c", "typecmds.c", "user.c",
    }
)  # fmt: skip


def _place(error: ServerError, text: str, segment: Segment | None) -> tuple[int | None, int | None]:
    if segment is not None and error.position is not None:
        offset = error.position - 1 - segment.part_start + segment.text_start
        # A server without an encoding counts bytes, those of what went before in the message as well.
        one = segment.script.statements[error.statement] if error.statement is not None else None
        if (0 <= offset <= len(text)) if one is None else (one.start <= offset <= one.end):
            return line_and_column(text, offset)
    if segment is not None and error.statement is not None:
        return segment.script.statements[error.statement].line, None
    return None, None


def _hint(sqlstate: str, cancelled: str | None, named: bool) -> str | None:
    if cancelled and "max_blocking" in cancelled and not named:
        return "nobody was in the way, it takes that long itself: split the file, or raise max_blocking of this environment"
    if cancelled or sqlstate in {"55P03", "40P01"}:
        end = "end that session (SELECT pg_terminate_backend(PID)), or try again when it is quiet"
        return end if named else "another session is in the way; try again when it is quiet"
    return _HINTS.get(sqlstate)


_HINTS = {
    "2D000": "COMMIT inside a procedure cannot run in a transaction: put the CALL into a file of its own, with this line "
    "at its head: -- lockstep: transaction=none",
    "25001": "this statement cannot run in a transaction: give it a file of its own, with this line at its head: "
    "-- lockstep: transaction=none",
    "55P04": "a new enum value can be used only after its own transaction: put its use into the next migration",
    "42501": "the role lacks a privilege: set role = … for this environment, or grant it",
    "57014": "it ran into statement_timeout or was cancelled; raise statement_timeout in the file's head",
}

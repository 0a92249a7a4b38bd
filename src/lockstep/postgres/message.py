"""The one message that applies a transactional file: composed here as text, sent by the executor, shown by `plan --sql`.

BEGIN, timeouts, the file, the ledger and audit rows, COMMIT and the reset of the session travel together, so a
migration costs one round trip, and its effects and its ledger row commit together or not at all.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from psycopg import sql
from psycopg.abc import AdaptContext

from lockstep import __version__
from lockstep.core.migration import SqlFile
from lockstep.core.planner import Step
from lockstep.core.reverting import RevertStep
from lockstep.core.statements import Script
from lockstep.errors import MigrationFileError
from lockstep.postgres.connection import Target
from lockstep.postgres.lock import held_condition


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A run of one script's statements inside a part."""

    script: Script
    first: int  # index of its first statement in the script
    count: int  # how many statements
    text_start: int  # where its text begins in the script, in characters
    part_start: int  # where its text begins in the part, in characters
    index: int  # position of its first statement among the part's statements
    verifies: bool = False  # a verify script: boolean results must be true


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One simple-query message: one round trip."""

    text: str
    segments: tuple[Segment, ...]
    to_commit: int | None  # statements up to and including COMMIT; None: the transaction stays open


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What applies one file: one part, or several where it is large or has to be looked at before COMMIT."""

    script: Script
    parts: tuple[Part, ...]

    @property
    def text(self) -> str:
        """All that is sent, for a person."""
        return "\n".join(part.text for part in self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """Who runs: what ledger and audit rows record."""

    run_id: str
    orchestrator_url: str | None = None


def apply_message(step: Step, target: Target, run: RunInfo, baseline: str, context: AdaptContext) -> Message:
    """Compose the message that applies one step. Raises MigrationFileError when the file does not parse."""
    up = step.migration.up
    script = up.script()
    down = step.migration.down
    row = {
        "migration_name": step.name,
        "version": step.migration.version,
        "kind": step.migration.kind.value,
        "checksum": step.checksum,
        "content_digest": up.content_digest,
        "run_id": run.run_id,
        "tool_version": __version__,
        "statements_done": len(script.statements),
        "statements_total": len(script.statements),
        "down_script": down.text if down else None,
        "down_checksum": down.checksum if down else None,
    }
    names = ", ".join(row)
    values = ", ".join(_literal(value, context) for value in row.values())
    updates = ", ".join(f"{name} = excluded.{name}" for name in row if name != "migration_name")
    ledger = (
        f"INSERT INTO {_ledger(target, context)} ({names}, applied_at, applied_by, state, verified, execution_time_ms) "  # noqa: S608  # literals are escaped above
        f"VALUES ({values}, pg_catalog.clock_timestamp(), current_user, 'applied', true, {_ELAPSED})"
    )
    if step.migration.version is None:
        ledger += (
            f" ON CONFLICT (migration_name) WHERE version IS NULL DO UPDATE SET {updates}, applied_at = excluded.applied_at,"
            " applied_by = excluded.applied_by, state = excluded.state, verified = true,"
            " execution_time_ms = excluded.execution_time_ms"
        )
    # Division by the number of rows written: an entry that something swallowed fails the transaction.
    ledger = f"WITH kept AS ({ledger} RETURNING 1) SELECT 1 / count(*) FROM kept"  # noqa: S608  # literals are escaped above
    details = {"checksum": step.checksum, "again": step.again}
    audit = _audit(target, run, "apply", step.name, step.migration.version, details, context)
    verify = step.migration.verify.script() if step.migration.verify else None
    return _compose(up, script, verify, target, baseline, context, (ledger, audit))


def revert_message(
    step: RevertStep, target: Target, run: RunInfo, baseline: str, context: AdaptContext, *, reason: str | None
) -> Message:
    """Compose the message that takes one entry back. Raises MigrationFileError when the down does not parse."""
    script = step.down.script()
    name = _literal(step.entry.name, context)
    # Division by the number of deleted rows: an entry that has gone meanwhile fails the transaction.
    ledger = (
        f"WITH gone AS (DELETE FROM {_ledger(target, context)} WHERE migration_name = {name} RETURNING 1) "  # noqa: S608
        "SELECT 1 / count(*) FROM gone"
    )
    # What repeatables put into the reverted objects may be gone with them: they run again at the next chance.
    again = f"UPDATE {_ledger(target, context)} SET checksum = NULL WHERE kind = 'repeatable'"  # noqa: S608
    details = {
        "checksum": step.up.checksum if step.up else step.entry.checksum,
        "content_digest": step.up.content_digest if step.up else step.entry.content_digest,
        "recorded_checksum": step.entry.checksum,
        "down_checksum": step.down.checksum,
        "source": step.source,
        "reason": reason,
    }
    audit = _audit(target, run, "revert", step.entry.name, step.entry.version, details, context)
    return _compose(step.down, script, None, target, baseline, context, (ledger, again, audit))


_ELAPSED = "(pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() - pg_catalog.transaction_timestamp()) * 1000)::pg_catalog.int8"

#: What a file may leave behind in a session, undone after COMMIT. DISCARD ALL cannot run in such a message.
_RESET = (
    "RESET SESSION AUTHORIZATION", "RESET ROLE", "DISCARD TEMP", "DISCARD SEQUENCES", "DEALLOCATE ALL",
    "UNLISTEN *", "CLOSE ALL",
)  # fmt: skip


def reset_sql(target: Target, baseline: str, context: AdaptContext) -> list[str]:
    """Statements that bring a session back to its start; the last one returns how many advisory locks it holds."""
    # First of all our own timeouts and search_path again: RESET ALL goes back to the role's.
    words = ["RESET ALL", baseline, *_RESET]
    if target.role:
        words.append(f"SET ROLE {sql.Identifier(target.role).as_string(context)}")
    words.append(
        "SELECT count(*) FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND pid = pg_catalog.pg_backend_pid()"
    )
    return words


def _compose(
    file: SqlFile,
    script: Script,
    verify: Script | None,
    target: Target,
    baseline: str,
    context: AdaptContext,
    rows: tuple[str, ...],
) -> Message:
    directives = file.directives
    lock_timeout = target.lock_timeout_ms if directives.lock_timeout_ms is None else directives.lock_timeout_ms
    limit = (
        directives.statement_timeout_ms if directives.statement_timeout_ms is not None else target.statement_timeout_ms
    )
    # A file runs with the search_path of the configuration, else of its role; our own statements never do.
    path = "RESET search_path"
    if target.search_path:
        path = f"SELECT pg_catalog.set_config('search_path', {_literal(target.search_path, context)}, true)"
    own_role = f"SET LOCAL ROLE {sql.Identifier(target.role).as_string(context)}" if target.role else "RESET ROLE"
    writer = _Writer()
    writer.own(
        "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE NOT DEFERRABLE",
        f"SET LOCAL lock_timeout = {lock_timeout}",
        f"SET LOCAL statement_timeout = {limit or 0}",
        own_role,
        path,
    )
    for first, last in _chunks(script):
        if writer.size and writer.size + len(script.text) > CHUNK:
            writer.finish()
        writer.segment(script, first, last)
    writer.own("RESET SESSION AUTHORIZATION", own_role)
    if verify is not None:
        # Whatever a verify script does is undone; its results are looked at before COMMIT.
        writer.own(path, "SAVEPOINT lockstep_verify")
        writer.segment(verify, 0, len(verify.statements), verifies=True)
        writer.own("ROLLBACK TO SAVEPOINT lockstep_verify")
        writer.finish()
    writer.own(
        "SET LOCAL search_path = pg_catalog, pg_temp",
        "SET LOCAL row_security = off",
        "SET LOCAL statement_timeout = 0",
        _assert_lock(target),
        *rows,
        "COMMIT",
    )
    writer.commit_here()
    writer.own(*reset_sql(target, baseline, context))
    writer.finish()
    return Message(script=script, parts=tuple(writer.parts))


#: Characters of a file that travel in one message; the server's parser takes about 16 times the text in memory.
CHUNK = 1024 * 1024
#: A single statement beyond this is refused: it cannot be split.
LARGEST_STATEMENT = 64 * 1024 * 1024


def _chunks(script: Script) -> list[tuple[int, int]]:
    """Ranges of statements that travel together. A file up to CHUNK is one range."""
    if len(script.text) <= CHUNK:
        return [(0, len(script.statements))]
    ranges: list[tuple[int, int]] = []
    first, size = 0, 0
    for index, statement in enumerate(script.statements):
        length = statement.end - statement.start
        if length > LARGEST_STATEMENT:
            raise MigrationFileError(
                f"one statement of {length // 2**20} MiB; the largest that is sent is {LARGEST_STATEMENT // 2**20} MiB",
                file=script.file,
                line=statement.line,
                hint="split it into several statements",
            )
        if size and size + length > CHUNK:
            ranges.append((first, index))
            first, size = index, 0
        size += length
    ranges.append((first, len(script.statements)))
    return ranges


class _Writer:
    """Builds parts: our own statements, and runs of a script's statements, with where each stands."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self._clear()

    def _clear(self) -> None:
        self._text: list[str] = []
        self.size = 0  # characters so far
        self._statements = 0
        self._segments: list[Segment] = []
        self._commit: int | None = None

    def own(self, *statements: str) -> None:
        for statement in statements:
            self._add(statement + ";\n")
        self._statements += len(statements)

    def segment(self, script: Script, first: int, last: int, *, verifies: bool = False) -> None:
        whole = first == 0 and last == len(script.statements)
        start = 0 if whole else script.statements[first].start
        end = len(script.text) if whole else script.statements[last - 1].end
        self._segments.append(
            Segment(
                script=script,
                first=first,
                count=last - first,
                text_start=start,
                part_start=self.size,
                index=self._statements,
                verifies=verifies,
            )
        )
        # The text may end inside a `--` comment or without a semicolon: a new line and a semicolon of our own end it.
        self._add(script.text[start:end] + "\n;\n")
        self._statements += last - first
        # What follows in later parts is UTF-8, whatever the file said.
        self.own("SET LOCAL client_encoding = 'UTF8'")

    def commit_here(self) -> None:
        self._commit = self._statements

    def finish(self) -> None:
        if self._text:
            part = Part(text="".join(self._text), segments=tuple(self._segments), to_commit=self._commit)
            self.parts.append(part)
        self._clear()

    def _add(self, text: str) -> None:
        self._text.append(text)
        self.size += len(text)


def _assert_lock(target: Target) -> str:
    """Fails the transaction unless this session still holds the run's lock and the file left the ledger alone.

    Who wrote rows holds ROW EXCLUSIVE on the table until the end of the transaction; TRUNCATE leaves it empty.
    """
    table, log_table = (
        sql.Identifier(target.ledger_schema, name).as_string()
        for name in ("schema_migrations", "schema_migrations_log")
    )
    ledger, log = (f"pg_catalog.to_regclass({sql.Literal(name).as_string()})" for name in (table, log_table))
    # One look at pg_locks: every migration pays for it.
    return (
        "DO $lockstep$ DECLARE held boolean; wrote boolean; emptied boolean; what text; BEGIN "  # noqa: S608  # names are quoted above
        f"SELECT bool_or({held_condition(target.ledger_schema)}), "
        f"bool_or(relation = {ledger} AND mode = 'RowExclusiveLock'), "
        f"bool_or(relation = {ledger} AND mode = 'AccessExclusiveLock') INTO held, wrote, emptied "
        "FROM pg_catalog.pg_locks WHERE pid = pg_catalog.pg_backend_pid(); "
        "IF held IS NOT TRUE THEN what := "
        "'the lock of this run is not held any more: the file released advisory locks'; "
        f"ELSIF {ledger} IS NULL OR {log} IS NULL THEN what := "
        "'the file removed or renamed the ledger, which belongs to Lockstep alone'; "
        f"ELSIF emptied THEN wrote := wrote OR NOT EXISTS (SELECT FROM {table}); END IF; "
        "IF what IS NULL AND wrote THEN what := "
        "'the file writes to the ledger, which belongs to Lockstep alone: it records each file by itself'; "
        "END IF; IF what IS NOT NULL THEN RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', "
        "MESSAGE = what; END IF; END $lockstep$"
    )


def _ledger(target: Target, context: AdaptContext) -> str:
    return sql.Identifier(target.ledger_schema, "schema_migrations").as_string(context)


def _audit(
    target: Target,
    run: RunInfo,
    event: str,
    name: str,
    version: int | None,
    details: Mapping[str, object],
    context: AdaptContext,
) -> str:
    table = sql.Identifier(target.ledger_schema, "schema_migrations_log").as_string(context)
    values = (event, socket.gethostname(), run.run_id, run.orchestrator_url, name, version)
    literals = ", ".join(_literal(value, context) for value in values)
    shown = _literal(json.dumps(dict(details)), context)
    return (
        f"INSERT INTO {table} (event, host, run_id, orchestrator_url, migration_name, version, duration_ms, details) "  # noqa: S608
        f"VALUES ({literals}, {_ELAPSED}, {shown}::pg_catalog.jsonb)"
    )


def _literal(value: object, context: AdaptContext) -> str:
    return sql.Literal(value).as_string(context)

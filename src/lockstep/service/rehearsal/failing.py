"""A migration that failed on a copy, in words: which rows are in the way, by their keys, and nothing else of them.

The server's own words about a value never get into a problem: of some errors they hold what the rows hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from lockstep.core.locking.nodes import nodes
from lockstep.core.migration import SqlFile
from lockstep.core.rehearsal.verdict import Outcome, Problem
from lockstep.core.rehearsal.violation_words import advice_words, general_words, violation_words
from lockstep.core.rehearsal.violations import Duplicate, Named, Violation, violations
from lockstep.errors import LockstepError, MigrationFailed
from lockstep.postgres.connection import open_session
from lockstep.postgres.message import Frame
from lockstep.postgres.offenders import Offenders, constraint_of, describe, offenders
from lockstep.service.project import target_of
from lockstep.service.rehearsal.stage import Clone
from lockstep.service.run import new_run_id

REPLAY_TIMEOUT_MS = 60_000  # for the statements before the one that failed


def failure_of(error: MigrationFailed, clone: Clone, file: SqlFile | None) -> Problem:
    """Return the failure as a problem. `file` is the one that failed, as it is; the clone is changed by nothing.

    The clone is as it was before the file, or before the unit of a file outside of a transaction.
    """
    state = error.sqlstate or ""
    found = _look(error, clone, file) if file is not None and file.name == error.file else None
    on_data = state[:2] in ("22", "23")
    if found is not None:
        violation, table, rows = found
        message = violation_words(violation, table, rows)
        advice: str | None = advice_words(violation, rows)
    else:
        message, advice = general_words(error), error.hint
    elsewhere = file is not None and error.file != file.name  # in its verify script
    place = ":".join(str(part) for part in (error.file, error.line) if part is not None)
    return Problem(
        outcome=Outcome.FAILED,
        rule="fails-on-data" if on_data else "fails",
        message=f"{place}: {message}" if elsewhere else message,
        file=file.name if file is not None else error.file,
        line=None if elsewhere else error.line,
        advice=advice,
    )


def _look(error: MigrationFailed, clone: Clone, file: SqlFile) -> tuple[Violation, str, Offenders] | None:
    """What the statement asks of the rows, its table, and the rows in its way; None where they cannot be named."""
    index = error.failing.statement if error.failing else None
    if index is None or not error.sqlstate or error.sqlstate[:2] not in ("22", "23"):
        return None
    script = file.script()
    statement = script.statements[index]
    node = list(nodes(script))[index]
    wanted = violations(statement.kind, node, error.sqlstate, error.failing.column if error.failing else None)
    if not wanted:
        return None
    before = [script.text[one.start : one.end] for one in script.statements[:index]] if file.transactional else []
    try:
        with _session(clone) as connection:
            for texts in (before, []) if before else ([],):
                if found := _first(connection, texts, wanted):
                    return found
    except LockstepError:
        return None
    return None


@contextmanager
def _session(clone: Clone) -> Iterator[psycopg.Connection[Any]]:
    """A session with the clone as the run has it: role, search_path, settings."""
    session = open_session(target_of(clone.settings, clone.environment), run_id=new_run_id())
    try:
        session.send_settings()
        session.connection.execute(Frame.of(session).path(local=False).encode())
        yield session.connection
    finally:
        session.close()


def _first(
    connection: psycopg.Connection[Any], before: list[str], wanted: tuple[Violation, ...]
) -> tuple[Violation, str, Offenders] | None:
    """The first of what is wanted that some row violates, once the statements before have run. Nothing stays."""
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(f"SET LOCAL statement_timeout = {REPLAY_TIMEOUT_MS}".encode())
            for text in before:
                connection.execute(text.encode())
            for one in _resolved(connection, wanted):
                table = describe(connection, one.table, _columns(one))
                rows = offenders(connection, table, one) if table else None
                if table is not None and rows is not None:
                    return one, table.name, rows
    except psycopg.Error:
        return None
    return None


def _resolved(connection: psycopg.Connection[Any], wanted: tuple[Violation, ...]) -> Iterator[Violation]:
    for one in wanted:
        if isinstance(one, Named):
            yield from constraint_of(connection, one)
        else:
            yield one


def _columns(violation: Violation) -> frozenset[str]:
    """Columns that cannot name a row, since what they hold is what is wrong."""
    if isinstance(violation, Duplicate):
        return frozenset(part.strip('"') for part in violation.parts)
    column = getattr(violation, "column", None)
    return frozenset({column}) if column else frozenset()

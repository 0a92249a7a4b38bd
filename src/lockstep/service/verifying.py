"""After applying: the ledger says what the plan said, nothing is left to do, and the verify scripts hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from lockstep.config import Environment, Settings
from lockstep.core.comparison import State, compare
from lockstep.core.counting import counted
from lockstep.core.ledger import applied_set
from lockstep.core.migration import Folder
from lockstep.errors import LedgerError, MigrationFailed, Unreachable
from lockstep.postgres.connection import Session, Target, guard, open_session
from lockstep.postgres.ledger import read_ledger
from lockstep.postgres.servererror import said
from lockstep.service.project import target_of
from lockstep.service.run import new_run_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was checked on one target."""

    target: str  # shown name
    migrations: int  # entries found as the plan said
    scripts: int  # verify scripts that held
    applied: frozenset[tuple[str, str | None]]  # all that the ledger holds: core.ledger.applied_set


def verify(settings: Settings, environment: Environment, folder: Folder, names: Sequence[str]) -> Verified:
    """Check, in a new session, that each named migration is applied with the checksum on disk and still verifies.

    Everything runs in transactions that are rolled back. Raises LedgerError or MigrationFailed naming what is not so,
    and Unreachable.
    """
    target = target_of(settings, environment)
    try:
        return _verify(target, folder, names)
    except Unreachable as lost:
        count = counted(len(names), "migration is", "migrations are")
        raise lost.noting(
            f"{count} applied; only the check after them is missing.", hint=f"lockstep status {environment.name}"
        ) from None


def _verify(target: Target, folder: Folder, names: Sequence[str]) -> Verified:
    session = open_session(target, run_id=new_run_id())
    try:
        session.send_settings()
        ledger = read_ledger(session)
        rows = {row.name: row for row in compare(folder, ledger, target.settings)}
        scripts = 0
        for name in names:
            row = rows.get(name)
            if row is None or row.state is not State.APPLIED or row.migration is None:
                state = row.state.value if row else "not in the ledger"
                raise LedgerError(f"{target.name}: {name} should be applied, and is {state}.", hint="lockstep status")
            if row.migration.verify is not None:
                _run(session, row.migration.verify.script().text, row.migration.verify.name)
                scripts += 1
        applied = applied_set(ledger.entries)
        return Verified(target=target.name, migrations=len(names), scripts=scripts, applied=applied)
    finally:
        session.close()


def _run(session: Session, text: str, file: str) -> None:
    target = session.target
    problem: tuple[str, str | None] | None = None
    with guard(target):
        session.connection.execute("BEGIN")
        try:
            session.connection.execute("RESET search_path")
            if target.search_path:
                session.connection.execute("SELECT set_config('search_path', %s, true)", (target.search_path,))
            cursor = session.connection.execute(text.encode())
            while True:
                if cursor.description is not None:
                    booleans = [i for i, column in enumerate(cursor.description) if column.type_code == 16]
                    if any(row[i] is not True for row in cursor for i in booleans):
                        problem = ("a result is not true", "P0004")
                if not cursor.nextset():
                    break
        except psycopg.DatabaseError as error:
            if error.sqlstate is None:
                raise
            problem = (said(error, session), error.sqlstate)
        finally:
            if not session.connection.closed:
                session.connection.execute("ROLLBACK")
    if problem is not None:
        outcome = "the migrations stay applied."
        raise MigrationFailed(
            f"{target.name}: {file}: {problem[0]} (SQLSTATE {problem[1]})\n{outcome}",
            target=target.name,
            file=file,
            line=None,
            sqlstate=problem[1],
            outcome=outcome,
            hint=f"look at what it checks, then go on or: lockstep revert {target.environment} --steps 1",
        )

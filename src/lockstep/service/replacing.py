"""A restored database in the place of a living one: restored beside it, proven, and only then renamed into its place.

Until the two renames commit the old database is untouched. Afterwards it is kept, closed to connections, until
somebody drops it or takes it back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from lockstep.core.contents import DatabaseShape
from lockstep.core.counting import counted
from lockstep.errors import RestoreFailed, RestoreRefused
from lockstep.postgres.connection import Session, open_session
from lockstep.postgres.entries import RunInfo
from lockstep.postgres.lock import take_lock
from lockstep.postgres.pgrestore import RestoreOptions
from lockstep.postgres.prerequisites import drop_stand_ins
from lockstep.postgres.replacement import (
    Writes,
    beside,
    change_places,
    closed,
    drop,
    exists,
    obstacles,
    opening,
    writes_since,
)
from lockstep.postgres.servererror import said
from lockstep.postgres.shape import create_like, dress, read_shape
from lockstep.service.filling import StoredBackup
from lockstep.service.progress import Progress
from lockstep.service.restoring import (
    Replacement,
    RestoreChoices,
    RestoreReport,
    finish,
    load,
    log_restore,
    make_stand_ins,
    on_database,
)

MANUAL = "restore into an empty database beside it, and point the application there: docs/guide.md#restore"


def replace_database(
    backup: StoredBackup,
    session: Session,
    run: RunInfo,
    progress: Progress,
    choices: RestoreChoices,
    options: RestoreOptions,
    found: tuple[str, ...],
) -> RestoreReport:
    """Put the backup into the place of the database that `session` is in. The session holds the lock, and is closed.

    Raises RestoreRefused (nothing was done), RestoreFailed, and what `choices.confirm` raises.
    """
    target, name = session.target, session.target.environment
    database = session.connection.info.dbname
    _refuse_obstacles(backup, session)
    choices.confirm(_replacement(backup, session, database, found))
    fresh, kept = beside(database, "restored", run.run_id), beside(database, "before", run.run_id)
    home = open_session(on_database(target, "template1" if database == "postgres" else "postgres"), run_id=run.run_id)
    try:
        _tell_leftovers(home.connection, database, progress, name)
        shape = read_shape(session.connection)
        with _made_for_this(home, backup, choices, progress, fresh, database, kept) as roles:
            create_like(home.connection, fresh, shape, owner=shape.owner)
            copy = open_session(on_database(target, fresh), run_id=run.run_id)
            try:
                load(backup, copy, progress, choices, options, atomic=False)
                proof = finish(backup, copy, progress)
                if proof.differences:
                    raise RestoreFailed(
                        "the copy is not what was backed up:" + "".join(f"\n  {t}" for t in proof.differences[:10]),
                        target=target.name,
                    )
                dress(home.connection, fresh, shape)
            finally:
                copy.close()
            progress.note(name, f"closing {database} to change names. Should this be cut off: {opening(database)}")
            lost, notices = _change_places(home, session, backup, run, shape, database=database, fresh=fresh, kept=kept)
    finally:
        home.close()
    if lost.rows:
        progress.note(
            name, f"{counted(lost.rows, 'row that was', 'rows that were')} written since the backup: in {kept} only"
        )
    progress.note(name, f"{database} is the restored database now; the old one is {kept}, closed to connections")
    return RestoreReport(
        backup=backup.manifest.id, target=target.name, database=database, proof=proof, duration_ms=0, kept=kept,
        lost=lost, stand_ins=roles, notices=notices,
    )  # fmt: skip


def dropping(report: RestoreReport) -> str:
    """SQL that drops the old database."""
    return f"DROP DATABASE {sql.Identifier(report.kept or '').as_string()};"


def afterwards(report: RestoreReport) -> tuple[str, ...]:
    """What a person must know of the old database, line by line; () when there was none."""
    if report.kept is None:
        return ()
    return (
        f"the old database is kept as {report.kept}, closed to connections",
        f"  to drop it:  {dropping(report)}",
        "  to take it back, in another database of the server (psql):",
        *(f"    {statement}" for statement in way_back(report)),
    )


def way_back(report: RestoreReport) -> tuple[str, ...]:
    """SQL statements that put the old database back, to be run in another database of the server."""
    current, kept = (sql.Identifier(text).as_string() for text in (report.database, report.kept or ""))
    away = sql.Identifier(beside(report.database, "restored", report.backup[-20:])).as_string()
    ending = sql.SQL("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {};")
    return (
        f"ALTER DATABASE {current} ALLOW_CONNECTIONS false;",
        ending.format(sql.Literal(report.database)).as_string(),
        f"BEGIN; ALTER DATABASE {current} RENAME TO {away}; ALTER DATABASE {kept} RENAME TO {current}; COMMIT;",
        f"ALTER DATABASE {current} ALLOW_CONNECTIONS true;",
    )


def _refuse_obstacles(backup: StoredBackup, session: Session) -> None:
    reasons = list(obstacles(session.connection))
    if backup.manifest.excluded_schemas:
        names = ", ".join(backup.manifest.excluded_schemas)
        reasons.append(f"the backup lacks schemas that the database has or had: {names}")
    if session.facts.pooled:
        reasons.append("this address leads through a pooler, whose sessions would be ended; use the direct one")
    if reasons:
        raise RestoreRefused(tuple(reasons), target=session.target.name, hint=MANUAL)


def _replacement(backup: StoredBackup, session: Session, database: str, found: tuple[str, ...]) -> Replacement:
    schema = session.target.ledger_schema
    ledger = backup.manifest.ledger
    applied: tuple[str, ...] = ()
    try:
        with session.connection.transaction():
            session.connection.execute("SET LOCAL row_security = off")
            rows = session.connection.execute(
                sql.SQL(
                    "SELECT migration_name FROM {0}.schema_migrations m WHERE EXISTS (SELECT FROM "
                    "{0}.schema_migrations_log l WHERE l.migration_name = m.migration_name AND l.id > %s "
                    "AND l.event IN ('apply', 'repair', 'baseline')) OR m.applied_at > %s ORDER BY version NULLS LAST, 1"
                ).format(sql.Identifier(schema)),
                # Rows of the log may have been pruned: then the entry's own time tells.
                ((ledger.audit_length if ledger else None) or 0, backup.manifest.taken_at),
            ).fetchall()
        applied = tuple(row[0] for row in rows)
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        pass  # the living database has no ledger
    return Replacement(
        target=session.target.name,
        database=database,
        occupants=found,
        writes=_writes(backup, session),
        migrations=applied,
    )


def _writes(backup: StoredBackup, session: Session) -> Writes:
    return writes_since(
        session.connection,
        backup.contents,
        system_identifier=backup.manifest.system_identifier,
        ledger_schema=session.target.ledger_schema,
    )


@contextmanager
def _made_for_this(
    home: Session,
    backup: StoredBackup,
    choices: RestoreChoices,
    progress: Progress,
    fresh: str,
    database: str,
    kept: str,
) -> Iterator[tuple[str, ...]]:
    """Roles and the database beside; they go again when the block fails, however it fails."""
    roles = make_stand_ins(backup, home.connection, choices, progress, home.target.environment)
    try:
        yield roles
    except BaseException as error:
        name = home.target.environment
        left = "the copy beside it was dropped"
        replaced = False
        try:
            replaced = exists(home.connection, kept)  # both renames are one transaction
            if not replaced:
                drop(home.connection, fresh)
                drop_stand_ins(home.connection, roles)
        except psycopg.Error:
            left = f"the copy beside it could not be dropped: DROP DATABASE {sql.Identifier(fresh).as_string()}"
            progress.note(name, left)
        if replaced:
            progress.note(name, f"{database} is the restored database already; the old one is {kept}, closed")
            raise
        outcome = error.outcome if isinstance(error, RestoreFailed) and error.outcome else f"{database} is as it was"
        if isinstance(error, RestoreFailed):
            raise error.leaving(f"{outcome}; {left}") from None
        if not isinstance(error, Exception):  # Ctrl-C, SIGTERM
            progress.note(name, f"{outcome}; {left}")
        if isinstance(error, psycopg.Error):
            reason = f"{said(error, home)} (SQLSTATE {error.sqlstate})"
            raise RestoreFailed(reason, target=home.target.name, outcome=f"{outcome}; {left}") from None
        raise


def _change_places(
    home: Session,
    session: Session,
    backup: StoredBackup,
    run: RunInfo,
    shape: DatabaseShape,
    *,
    database: str,
    fresh: str,
    kept: str,
) -> tuple[Writes, list[str]]:
    """Close the old database, count what was written to it, and rename. The lock is held until its last session ends."""
    if not session.idle:
        raise RestoreFailed("the session that holds the lock was lost", target=session.target.name)
    with closed(home.connection, database, own=session.facts.pid, target=session.target.name):
        take_lock(session)  # proves that this session still lives and holds it: nobody deployed meanwhile
        if new := obstacles(session.connection):
            raise RestoreFailed(f"meanwhile it came to this: {'; '.join(new)}", target=session.target.name)
        if (now := read_shape(session.connection)) != shape:  # a grant or a setting came meanwhile
            dress(home.connection, fresh, now)
        lost = _writes(backup, session)
        session.close()
        copy = open_session(on_database(session.target, fresh), run_id=run.run_id)
        try:
            notices = log_restore(backup, copy, run, replaced=kept, lost=lost)
        finally:
            copy.close()
        change_places(home.connection, current=database, fresh=fresh, kept=kept)
    return lost, notices


def _tell_leftovers(connection: psycopg.Connection, database: str, progress: Progress, name: str) -> None:
    """Copies of earlier tries whose process was killed, and databases that earlier restores replaced."""
    rows = connection.execute("SELECT datname FROM pg_catalog.pg_database ORDER BY 1").fetchall()
    ours = re.compile(rf"{re.escape(database)}_(restored|before)_\d{{8}}-\d{{6}}-[0-9a-f]{{4}}")
    if found := [name for (name,) in rows if ours.fullmatch(name)]:
        names = ", ".join(found[-5:]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
        progress.note(name, f"of earlier restores there still are: {names} (DROP DATABASE when they are not needed)")

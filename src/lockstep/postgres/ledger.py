"""The ledger in the database: its entries, read and written. With `ledger_setup`, all that knows its columns.

Every access runs with row_security=off, so a ledger that row level security would filter is an error and never looks
empty (an empty ledger would re-run everything).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from lockstep.core.checksum import checksum
from lockstep.core.directives import NONE, parse_directives
from lockstep.core.ledger import TABLES, Entry, EntryState, Hold, Ledger
from lockstep.core.migration import Kind, SqlFile
from lockstep.core.text import printable
from lockstep.errors import (
    LedgerError,
    LedgerFiltered,
    LedgerForeign,
    LedgerMissing,
    LedgerNotOwned,
    MigrationFileError,
)
from lockstep.postgres.connection import WRITER, Session, guard
from lockstep.postgres.entries import entry_progress

if TYPE_CHECKING:
    from lockstep.core.rehearsal.stored import StoredProof

_SQL = Path(__file__).with_name("sql")


def query(name: str, session: Session, **more: sql.Composable) -> sql.Composed:
    """Return a named .sql file with the ledger's schema filled in."""
    text = (_SQL / f"{name}.sql").read_text(encoding="utf-8")
    return sql.SQL(text).format(schema=sql.Identifier(session.target.ledger_schema), **more)  # our own file


# -- reading ------------------------------------------------------------------------------------------------------


def read_ledger(session: Session) -> Ledger:
    """Read the whole ledger in one round trip, in one read-only transaction.

    Raises LedgerMissing, LedgerForeign (or one that needs `init`), LedgerFiltered.
    """
    try:
        return _read(session, "off")
    except psycopg.errors.UndefinedTable:
        raise missing(session) from None
    except psycopg.errors.UndefinedColumn:
        refuse_foreign(session)
        raise LedgerError(
            f"{session.target.name}: {session.target.ledger} is of an older form.",
            hint=f"lockstep init {session.target.environment}",
        ) from None
    except psycopg.errors.LockNotAvailable:
        raise locked(session) from None
    except psycopg.errors.InsufficientPrivilege:
        if reads_all_rows(session):
            return _read(session, "on")
        raise LedgerFiltered(
            target=session.target.name, ledger=session.target.ledger, role=session.facts.current_user
        ) from None


def _read(session: Session, row_security: str) -> Ledger:
    text = query(
        "read_ledger",
        session,
        row_security=sql.SQL(row_security),
        schemas=sql.Literal(list(session.target.schemas)),
        schema_name=sql.Literal(session.target.ledger_schema),
    )
    try:
        with guard(session.target):
            cursor = session.connection.execute(text)
            results: list[list[tuple[Any, ...]]] = []
            while True:
                if cursor.description is not None:
                    results.append(cursor.fetchall())
                if not cursor.nextset():
                    break
    except psycopg.DataError:
        _roll_back(session)
        raise unreadable_rows(session) from None
    except psycopg.Error:
        _roll_back(session)
        raise
    rows, holds, facts = results
    return Ledger(
        entries=tuple(_entry(row, session) for row in rows),
        holds=tuple(
            Hold(version=r[0], name=r[1] or "", checksum=r[2], content_digest=r[3], at=r[4], reason=r[5]) for r in holds
        ),
        salt=facts[0][0],
        occupied=facts[0][1],
    )


def _roll_back(session: Session) -> None:
    if not session.connection.closed and not session.idle:
        session.connection.execute("ROLLBACK")


_KINDS = {kind.value: kind for kind in Kind}
_STATES = {state.value: state for state in EntryState}


def _entry(row: tuple[Any, ...], session: Session) -> Entry:
    if row[2] not in _KINDS or row[3] not in _STATES or not isinstance(row[14], dict | None) or row[0] is None:
        raise LedgerError(
            f"{session.target.name}: the ledger's row of {printable(row[0] or 'no name')} holds what no Lockstep writes: "
            f"kind '{printable(str(row[2]))}', state '{printable(str(row[3]))}', or a progress of another form.",
            hint=f"a newer Lockstep may have written it; else correct the row in {session.target.ledger} by hand",
        )
    return Entry(
        name=row[0],
        version=row[1],
        kind=_KINDS[row[2]],
        state=_STATES[row[3]],
        checksum=row[4],
        content_digest=row[5],
        applied_at=row[6],
        execution_ms=row[7],
        applied_by=row[8],
        run_id=row[9],
        verified=row[10],
        down_checksum=row[11],
        statements_done=row[12],
        statements_total=row[13],
        progress=None if row[14] is None else entry_progress(row[14]),
        revert_proof=None if row[15] is None else _proof(row[15]),
    )


def _proof(document: dict[str, Any]) -> StoredProof | None:
    from lockstep.core.rehearsal.stored import stored_proof  # late: most entries have none

    return stored_proof(document)


def missing(session: Session) -> LedgerMissing:
    target = session.target
    return LedgerMissing(target=target.name, environment=target.environment, ledger=target.ledger)


def unreadable_rows(session: Session) -> LedgerError:
    """Return the error that ledger or audit log holds a value that no Lockstep writes and nothing here can take."""
    return LedgerError(
        f"{session.target.name}: {session.target.ledger} or its audit log holds a value that no Lockstep writes "
        "(a time beyond the year 9999, say).",
        hint=f"lockstep history {session.target.environment} --verify says which rows of the log others wrote",
    )


def locked(session: Session) -> LedgerError:
    """Return the error that somebody has the ledger, or what belongs to it, locked whole."""
    return LedgerError(
        f"{session.target.name}: another session has {session.target.ledger} locked.",
        hint="end that session (SELECT pid, query FROM pg_stat_activity), then try again",
    )


def reads_all_rows(session: Session) -> bool:
    """The configured reader: a policy lets this role see every row, and no restrictive policy takes some away."""
    row = session.connection.execute(
        """
        SELECT has_table_privilege(c.oid, 'SELECT')
               AND EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polpermissive
                            AND p.polcmd IN ('r', '*') AND pg_get_expr(p.polqual, p.polrelid) = 'true'
                            AND (0 = ANY (p.polroles) OR EXISTS (SELECT FROM unnest(p.polroles) r(oid)
                                  WHERE pg_has_role(current_user, r.oid, 'USAGE'))))
               AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND NOT p.polpermissive)
          FROM pg_class c
         WHERE c.oid = to_regclass(format('%%I.schema_migrations', %s::text))
        """,
        (session.target.ledger_schema,),
    ).fetchone()
    return bool(row and row[0])


def read_head(connection: psycopg.Connection, schema: str) -> tuple[int | None, int, str | None, int] | None:
    """Return (newest version, entries, hash and number of the newest audit row) as the caller's transaction sees it.

    None when there is no ledger. The caller has set row_security=off.
    """
    there = connection.execute(
        "SELECT to_regclass(format('%%I.schema_migrations_log', %s::text)) IS NOT NULL", (schema,)
    ).fetchone()
    if not there or not there[0]:
        return None
    row = connection.execute(
        sql.SQL(
            "SELECT (SELECT max(version) FROM {0}.schema_migrations), (SELECT count(*) FROM {0}.schema_migrations), "
            "(SELECT hash FROM {0}.schema_migrations_log ORDER BY id DESC LIMIT 1), "
            # Its number, not a count: after a prune that is fewer.
            "coalesce((SELECT max(id) FROM {0}.schema_migrations_log), 0)"
        ).format(sql.Identifier(schema))
    ).fetchone()
    assert row is not None
    return row[0], row[1], row[2], row[3]


def recorded_downs(session: Session) -> dict[int, SqlFile]:
    """Return the down scripts that the ledger kept, by version."""
    with guard(session.target), session.connection.transaction():
        session.connection.execute("SET LOCAL row_security = off")
        rows = session.connection.execute(
            sql.SQL(
                "SELECT version, migration_name, down_script FROM {}.schema_migrations "
                "WHERE version IS NOT NULL AND down_script IS NOT NULL"
            ).format(sql.Identifier(session.target.ledger_schema))
        ).fetchall()
    found = {}
    for version, name, text in rows:
        down_name = f"{name.removesuffix('.sql')}.down.sql"
        try:
            directives = parse_directives(text, down_name)
        except MigrationFileError:
            directives = NONE  # what an earlier version took for a comment
        found[version] = SqlFile(name=down_name, text=text, checksum=checksum(text), directives=directives)
    return found


def refuse_unowned(session: Session) -> None:
    """Raise LedgerNotOwned when the effective role does not own the ledger's tables (and is no member of who does)."""
    with guard(session.target):
        rows = session.connection.execute(
            """
            SELECT c.relname::text, pg_has_role(current_user, c.relowner, 'USAGE'), pg_get_userbyid(c.relowner)::text
              FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE n.nspname = %s AND c.relname = ANY (%s) ORDER BY length(c.relname)
            """,
            (session.target.ledger_schema, list(TABLES)),
        ).fetchall()
    if not rows or rows[0][0] != TABLES[0]:
        raise missing(session)
    for name, owned, owner in rows:
        if not owned:
            raise LedgerNotOwned(
                target=session.target.name,
                ledger=f"{session.target.ledger_schema}.{name}",
                role=session.facts.current_user,
                owner=owner,
            )


# -- whose table it is ---------------------------------------------------------------------------------------------

_OURS = {"migration_name", "checksum", "applied_at"}


def columns(session: Session) -> dict[str, str]:
    """Return the columns of a table called schema_migrations in the ledger's schema: name -> type. Empty if none."""
    with guard(session.target):
        rows = session.connection.execute(
            """
            SELECT a.attname::text, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
             WHERE a.attrelid = to_regclass(format('%%I.schema_migrations', %s::text))
               AND a.attnum > 0 AND NOT a.attisdropped
            """,
            (session.target.ledger_schema,),
        ).fetchall()
    return dict(rows)


def refuse_foreign(session: Session, found: Mapping[str, str] | None = None) -> None:
    """Raise LedgerForeign when the table is another tool's. A table that is not there is fine."""
    found = columns(session) if found is None else found
    if not found or set(found) >= _OURS or ({"migration_name", "applied_at"} <= set(found)):
        return
    names = set(found)
    if names == {"version", "dirty"}:
        tool = "golang-migrate's table"
    elif names == {"version"}:
        tool = "another tool's table (Rails or dbmate: one column, version)"
    elif names == {"version", "inserted_at"}:
        tool = "Ecto's table"
    elif {"version", "statements", "name"} <= names:
        tool = "the Supabase CLI's table"
    else:
        tool = f"another tool's table (columns: {', '.join(sorted(names))})"
    raise LedgerForeign(target=session.target.name, ledger=session.target.ledger, tool=tool)


# -- writing ------------------------------------------------------------------------------------------------------


def open_for_writing(session: Session) -> None:
    """Make the caller's transaction one that sees every row of the ledger, and may write to it."""
    session.connection.execute(f"SET LOCAL row_security = off; {WRITER}".encode())


def mark_failed(session: Session, statement: str) -> None:
    """Run the statement that says that an entry's file stopped with an error (entries.Scribe.failed)."""
    with guard(session.target), session.connection.transaction():
        open_for_writing(session)
        session.connection.execute(statement.encode())

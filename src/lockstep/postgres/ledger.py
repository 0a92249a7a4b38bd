"""The ledger in the database: create, read, write. The only module that knows its columns.

Every access runs with row_security=off, so a ledger that row level security would filter is an error and never looks
empty (an empty ledger would re-run everything).
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from typing import Any

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from lockstep import __version__
from lockstep.core.checksum import checksum
from lockstep.core.directives import parse_directives
from lockstep.core.filename import parse_file_name
from lockstep.core.ledger import Entry, EntryState, Hold, Ledger
from lockstep.core.migration import Kind, SqlFile
from lockstep.errors import LedgerError, LedgerFiltered, LedgerForeign, LedgerMissing, LedgerNotOwned
from lockstep.postgres.connection import Session, guard
from lockstep.postgres.lock import audit_key

#: Roles through which Supabase serves `public` to the internet. Closed out wherever they exist.
API_ROLES = ("anon", "authenticated", "service_role")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One row of the audit log, to be written."""

    event: str  # init, apply, fail, revert, repair, baseline, refuse, backup, …
    run_id: str | None
    migration_name: str | None = None
    version: int | None = None
    duration_ms: int | None = None
    details: Mapping[str, Any] | None = None  # never a secret
    orchestrator_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedEvent:
    """One row of the audit log, as read."""

    id: int
    at: datetime
    event: str
    actor: str
    host: str | None
    run_id: str | None
    migration_name: str | None
    version: int | None
    duration_ms: int | None
    details: Mapping[str, Any]


def query(name: str, session: Session, **more: sql.Composable) -> sql.Composed:
    """Return a named .sql file with the ledger's schema filled in."""
    text = files("lockstep.postgres").joinpath("sql", f"{name}.sql").read_text(encoding="utf-8")
    return sql.SQL(text).format(schema=sql.Identifier(session.target.ledger_schema), **more)  # our own file


# -- reading ------------------------------------------------------------------------------------------------------


def read_ledger(session: Session) -> Ledger:
    """Read the whole ledger in one round trip, in one read-only transaction.

    Raises LedgerMissing, LedgerForeign (or one that needs `init`), LedgerFiltered.
    """
    try:
        return _read(session, "off")
    except psycopg.errors.UndefinedTable:
        raise _missing(session) from None
    except psycopg.errors.UndefinedColumn:
        refuse_foreign(session)
        raise LedgerError(
            f"{session.target.name}: {session.target.ledger} is of an older form.",
            hint=f"lockstep init {session.target.environment}",
        ) from None
    except psycopg.errors.InsufficientPrivilege:
        if _reads_all_rows(session):
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
    except psycopg.Error:
        _roll_back(session)
        raise
    rows, holds, facts = results
    return Ledger(
        entries=tuple(_entry(row) for row in rows),
        holds=tuple(Hold(version=r[0], name=r[1] or "", checksum=r[2], at=r[3], reason=r[4]) for r in holds),
        salt=facts[0][0],
        occupied=facts[0][1],
    )


def _roll_back(session: Session) -> None:
    if not session.connection.closed and not session.idle:
        session.connection.execute("ROLLBACK")


def _entry(row: tuple[Any, ...]) -> Entry:
    return Entry(
        name=row[0],
        version=row[1],
        kind=Kind(row[2]),
        state=EntryState(row[3]),
        checksum=row[4],
        content_digest=row[5],
        applied_at=row[6],
        execution_ms=row[7],
        applied_by=row[8],
        run_id=row[9],
        verified=row[10],
        down_checksum=row[11],
    )


def _missing(session: Session) -> LedgerMissing:
    target = session.target
    return LedgerMissing(target=target.name, environment=target.environment, ledger=target.ledger)


def _reads_all_rows(session: Session) -> bool:
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
    """Return (newest version, entries, audit head, audit length) as the caller's transaction sees it.

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
            "(SELECT count(*) FROM {0}.schema_migrations_log)"
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
        directives = parse_directives(text, down_name)
        found[version] = SqlFile(name=down_name, text=text, checksum=checksum(text), directives=directives)
    return found


def refuse_unowned(session: Session) -> None:
    """Raise LedgerNotOwned when the effective role is not the ledger's owner (or a member of it)."""
    with guard(session.target):
        row = session.connection.execute(
            """
            SELECT pg_has_role(current_user, c.relowner, 'USAGE'), pg_get_userbyid(c.relowner)
              FROM pg_class c WHERE c.oid = to_regclass(format('%%I.schema_migrations', %s::text))
            """,
            (session.target.ledger_schema,),
        ).fetchone()
    if row is None:
        raise _missing(session)
    if not row[0]:
        raise LedgerNotOwned(
            target=session.target.name, ledger=session.target.ledger, role=session.facts.current_user, owner=row[1]
        )


# -- creating and upgrading ---------------------------------------------------------------------------------------

_OURS = {"migration_name", "checksum", "applied_at"}
_LEGACY_EXTRA = {"id", "execution_time", "execution_time_ms", "executed_at", "success", "description"}


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgraded:
    """What `create_ledger` found and did."""

    created: bool  # there was no table before
    adopted: int = 0  # rows of an older table whose checksum was recognised
    unverified: int = 0  # rows of an older table whose checksum was not


def create_ledger(
    session: Session,
    *,
    recognise: Mapping[str, tuple[str, str | None, frozenset[str]]],
    reader: str | None,
    event: Event,
) -> Upgraded:
    """Create the ledger, or upgrade an older table in place, in one transaction. Idempotent.

    `recognise` maps a file name to its checksum, its content digest and the checksums that other tools would have
    recorded for it. Raises LedgerForeign, LedgerNotOwned, LedgerError.
    """
    target = session.target
    found = columns(session)
    refuse_foreign(session, found)
    if found:
        refuse_unowned(session)
    current = "verified" in found
    try:
        with guard(target), session.connection.transaction():
            session.connection.execute("SET LOCAL row_security = off")
            if not found and target.ledger_schema != "public":
                _create_schema(session)
            if found and not current:
                _normalise_legacy(session, found)
            session.connection.execute(
                query("create_ledger", session, audit_key=sql.Literal(audit_key(target.ledger_schema)))
            )
            adopted, unverified = (0, 0) if current or not found else _adopt(session, recognise)
            session.connection.execute(query("constrain_ledger", session))
            _close(session, reader)
            if not current:
                details = {"salt": secrets.token_hex(16), "adopted": adopted, "unverified": unverified}
                write_event(session, Event(event="init", run_id=event.run_id, details=details))
    except psycopg.errors.UniqueViolation:
        raise LedgerError(
            f"{target.name}: {target.ledger} holds two rows for one version, so it was left as it is.",
            hint=f"list them (SELECT migration_name, applied_at FROM {target.ledger} ORDER BY 1), delete the wrong one",  # noqa: S608  # shown, never run
        ) from None
    except psycopg.errors.InsufficientPrivilege as error:
        raise LedgerError(
            f"{target.name}: role {session.facts.current_user} may not create the ledger: {error.diag.message_primary}",
            hint=f"GRANT CREATE ON SCHEMA {target.ledger_schema} TO {session.facts.current_user}",
        ) from None
    return Upgraded(created=not found, adopted=adopted, unverified=unverified)


def _create_schema(session: Session) -> None:
    there = session.connection.execute(
        "SELECT FROM pg_catalog.pg_namespace WHERE nspname = %s", (session.target.ledger_schema,)
    ).fetchone()
    if there is None:
        schema = sql.Identifier(session.target.ledger_schema)
        session.connection.execute(sql.SQL("CREATE SCHEMA {}").format(schema))


def _normalise_legacy(session: Session, found: Mapping[str, str]) -> None:
    """Widen the seed's columns: an applied_at without time zone was written in the server's own zone."""
    table = sql.Identifier(session.target.ledger_schema, "schema_migrations")
    for name in ("migration_name", "checksum"):
        if found.get(name, "text") != "text":
            session.connection.execute(sql.SQL("ALTER TABLE {} ALTER {} TYPE text").format(table, sql.Identifier(name)))
    if "checksum" not in found:
        session.connection.execute(sql.SQL("ALTER TABLE {} ADD COLUMN checksum text").format(table))
    if found["applied_at"] == "timestamp without time zone":
        session.connection.execute(sql.SQL("ALTER TABLE {} ALTER applied_at TYPE timestamptz").format(table))
    session.connection.execute(sql.SQL("UPDATE {} SET applied_at = now() WHERE applied_at IS NULL").format(table))


def _adopt(session: Session, recognise: Mapping[str, tuple[str, str | None, frozenset[str]]]) -> tuple[int, int]:
    """Give the rows of an older table their versions, and our checksums where the old ones can be recomputed."""
    table = sql.Identifier(session.target.ledger_schema, "schema_migrations")
    rows = session.connection.execute(sql.SQL("SELECT migration_name, checksum FROM {}").format(table)).fetchall()
    adopted = unverified = 0
    for name, old in rows:
        file = name if name.endswith(".sql") else f"{name}.sql"
        parsed = parse_file_name(file.rsplit("/", 1)[-1])
        ours = recognise.get(file.rsplit("/", 1)[-1])
        known = ours is not None and (old or "").lower() in ours[2] | {ours[0]}
        adopted, unverified = adopted + known, unverified + (not known)
        session.connection.execute(
            sql.SQL(
                "UPDATE {} SET version = %s, checksum = %s, content_digest = %s, verified = %s WHERE migration_name = %s"
            ).format(table),
            (
                parsed.version if parsed else None,
                ours[0] if ours and known else old,
                ours[1] if ours and known else None,
                known,
                name,
            ),
        )
    return adopted, unverified


def _close(session: Session, reader: str | None) -> None:
    """Take the ledger away from the roles that serve `public` to the internet, and open it to the configured reader."""
    schema = sql.Identifier(session.target.ledger_schema)
    rows = session.connection.execute(
        "SELECT rolname::text FROM pg_catalog.pg_roles WHERE rolname = ANY (%s)", (list(API_ROLES),)
    ).fetchall()
    for (role,) in rows:
        session.connection.execute(
            sql.SQL(
                "REVOKE ALL ON {0}.schema_migrations, {0}.schema_migrations_log FROM {1};"
                "REVOKE ALL ON FUNCTION {0}.schema_migrations_log_hash({0}.schema_migrations_log), "
                "{0}.schema_migrations_log_chain(), {0}.schema_migrations_log_refuse() FROM {1}"
            ).format(schema, sql.Identifier(role))
        )
    if reader is None:
        return
    who = sql.Identifier(reader)
    for table in ("schema_migrations", "schema_migrations_log"):
        session.connection.execute(
            sql.SQL(
                "GRANT SELECT ON {0}.{1} TO {2};"
                "DROP POLICY IF EXISTS lockstep_reader ON {0}.{1};"
                "CREATE POLICY lockstep_reader ON {0}.{1} FOR SELECT TO {2} USING (true)"
            ).format(schema, sql.Identifier(table), who)
        )
    session.connection.execute(sql.SQL("GRANT USAGE ON SCHEMA {} TO {}").format(schema, who))


# -- writing ------------------------------------------------------------------------------------------------------


def write_event(session: Session, event: Event) -> None:
    """Append one row to the audit log, in the caller's transaction if there is one."""
    with guard(session.target):
        session.connection.execute(
            sql.SQL(
                "INSERT INTO {}.schema_migrations_log (event, host, run_id, orchestrator_url, migration_name, version, "
                "duration_ms, details) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)"
            ).format(sql.Identifier(session.target.ledger_schema)),
            (
                event.event,
                socket.gethostname(),
                event.run_id,
                event.orchestrator_url,
                event.migration_name,
                event.version,
                event.duration_ms,
                Jsonb(dict(event.details or {})),
            ),
        )


def insert_baseline(session: Session, entries: Sequence[tuple[str, int, str | None, str | None]]) -> None:
    """Record (name, version, checksum, content digest) rows as present already, in the caller's transaction."""
    with guard(session.target), session.connection.cursor() as cursor:
        cursor.executemany(
            sql.SQL(
                "INSERT INTO {}.schema_migrations (migration_name, version, kind, state, checksum, content_digest, "
                "applied_by, tool_version) VALUES (%s, %s, 'baseline', 'applied', %s, %s, current_user, %s)"
            ).format(sql.Identifier(session.target.ledger_schema)),
            [(*entry, __version__) for entry in entries],
        )


def insert_applied_by_hand(
    session: Session, name: str, version: int, checksum: str, content_digest: str | None
) -> None:
    """Record one version as applied, which a person ran, in the caller's transaction."""
    with guard(session.target):
        session.connection.execute(
            sql.SQL(
                "INSERT INTO {}.schema_migrations (migration_name, version, kind, state, checksum, content_digest, "
                "applied_by, tool_version) VALUES (%s, %s, 'versioned', 'applied', %s, %s, session_user, %s)"
            ).format(sql.Identifier(session.target.ledger_schema)),
            (name, version, checksum, content_digest, __version__),
        )


def delete_entry(session: Session, entry: Entry) -> None:
    """Take one entry out, in the caller's transaction."""
    _by_name(session, "DELETE FROM {}.schema_migrations WHERE migration_name = %s", (entry.name,))


def correct_entry(session: Session, entry: Entry, *, checksum: str, content_digest: str | None) -> None:
    """Record another checksum for an applied entry, in the caller's transaction."""
    _by_name(
        session,
        "UPDATE {}.schema_migrations SET checksum = %s, content_digest = %s, state = 'applied', verified = true "
        "WHERE migration_name = %s",
        (checksum, content_digest, entry.name),
    )


def _by_name(session: Session, text: str, values: tuple[Any, ...]) -> None:
    with guard(session.target):
        statement = sql.SQL(text).format(sql.Identifier(session.target.ledger_schema))  # a literal of this module
        if session.connection.execute(statement, values).rowcount != 1:
            raise LedgerError(f"{session.target.name}: the ledger changed meanwhile; nothing was corrected.")


# -- the audit log ------------------------------------------------------------------------------------------------


def read_log(session: Session, *, limit: int) -> list[LoggedEvent]:
    """Return the newest rows of the audit log, newest first. Raises LedgerMissing, LedgerFiltered."""
    statement = sql.SQL(
        "SELECT id, at, event, actor, host, run_id, migration_name, version, duration_ms, details "
        "FROM {}.schema_migrations_log ORDER BY id DESC LIMIT %s"
    ).format(sql.Identifier(session.target.ledger_schema))
    rows = _guarded_rows(session, statement, (limit,))
    return [
        LoggedEvent(
            id=r[0], at=r[1], event=r[2], actor=r[3], host=r[4], run_id=r[5], migration_name=r[6], version=r[7],
            duration_ms=r[8], details=r[9],
        )
        for r in rows
    ]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """What verifying the audit log's chain gave."""

    length: int  # rows
    head: str  # hash of the newest row; "" when empty
    broken_at: int | None  # id of the first row that does not fit; None: whole


def verify_chain(session: Session) -> Chain:
    """Recompute every hash of the audit log on the server and compare. Raises LedgerMissing, LedgerFiltered."""
    statement = sql.SQL(
        """
        SELECT count(*), coalesce(max(hash) FILTER (WHERE newest), ''), min(id) FILTER (WHERE NOT whole)
          FROM (SELECT l.id, l.hash, row_number() OVER (ORDER BY l.id DESC) = 1 AS newest,
                       l.hash = {0}.schema_migrations_log_hash(l)
                       AND l.id = row_number() OVER (ORDER BY l.id)
                       AND l.previous_hash = coalesce(lag(l.hash) OVER (ORDER BY l.id), '') AS whole
                  FROM {0}.schema_migrations_log l) AS checked
        """
    ).format(sql.Identifier(session.target.ledger_schema))
    length, head, broken = _guarded_rows(session, statement, ())[0]
    return Chain(length=length, head=head, broken_at=broken)


def _guarded_rows(session: Session, statement: sql.Composed, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    try:
        with guard(session.target), session.connection.transaction():
            session.connection.execute("SET LOCAL row_security = off")
            return session.connection.execute(statement, values).fetchall()
    except psycopg.errors.UndefinedTable:
        raise _missing(session) from None
    except psycopg.errors.InsufficientPrivilege:
        if not _reads_all_rows(session):
            raise LedgerFiltered(
                target=session.target.name, ledger=session.target.ledger, role=session.facts.current_user
            ) from None
    with guard(session.target):
        return session.connection.execute(statement, values).fetchall()

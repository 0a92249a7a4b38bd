"""A server and a role as an open session finds them: what a deploy will need of both. Asks, changes nothing.

It must not judge: what is wrong with an answer is core.setup_rules' to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg

from lockstep.core.duties import Login
from lockstep.core.setup_rules import ClockReading, Encryption
from lockstep.postgres.connection import Session, guard

PATIENCE_MS = 5_000  # of each of these questions, on the server


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLook:
    """What a server is, and how it is reached."""

    version: str  # as it calls itself: 15.18 (Debian 15.18-0+deb12u1)
    version_num: int  # 150018
    encryption: Encryption
    clock: ClockReading
    check_interval: str  # client_connection_check_interval as it is in the session: 500ms; 0: not supported
    database: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaRights:
    """What the effective role may do in one schema."""

    name: str
    exists: bool
    usage: bool
    create: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleLook:
    """The effective role."""

    name: str
    login: str  # who logged in
    superuser: bool
    bypasses_rls: bool
    monitors: bool  # has pg_monitor, or all rights
    creates_schemas: bool  # CREATE on the database
    schemas: tuple[SchemaRights, ...]  # those asked for, in that order


def bound(session: Session) -> None:
    """Let no question of this session take longer than PATIENCE_MS."""
    with guard(session.target):
        session.connection.execute(f"SET statement_timeout = {PATIENCE_MS}".encode())


def look_at_server(session: Session, *, stays_here: bool) -> ServerLook:
    """Ask a server what it is. Read-only. `stays_here`: the address does not lead to another machine.

    Raises Unreachable, and psycopg.Error for what a server refuses.
    """
    connection = session.connection
    with guard(session.target):
        before = datetime.now(UTC)
        row = connection.execute("SELECT pg_catalog.clock_timestamp()").fetchone()
        after = datetime.now(UTC)
        assert row is not None
        theirs = row[0]
        row = connection.execute(
            """
            SELECT pg_catalog.current_setting('server_version'), pg_catalog.current_setting('server_version_num')::int,
                   pg_catalog.current_setting('client_connection_check_interval'), pg_catalog.current_database()::text,
                   s.version, s.cipher, s.client_dn
              FROM (SELECT) AS one
              LEFT JOIN pg_catalog.pg_stat_ssl s ON s.pid = pg_catalog.pg_backend_pid()
            """
        ).fetchone()
    assert row is not None
    pooled = session.facts.pooled  # what the server knows is then of the pooler's own connection
    return ServerLook(
        version=row[0],
        version_num=row[1],
        encryption=Encryption(
            in_use=bool(connection.pgconn.ssl_in_use),
            mode=connection.info.get_parameters().get("sslmode", ""),
            protocol=None if pooled else row[4],
            cipher=None if pooled else row[5],
            stays_here=stays_here,
            bound=connection.info.get_parameters().get("channel_binding") == "require",
            client=None if pooled else row[6],
        ),
        clock=ClockReading(before=before, theirs=theirs, after=after),
        check_interval=row[2],
        database=row[3],
    )


def look_at_role(session: Session, schemas: Sequence[str]) -> RoleLook:
    """Ask what the effective role is and may do in these schemas. Read-only. Raises as `look_at_server` does."""
    with guard(session.target):
        row = session.connection.execute(
            """
            SELECT rolname::text, session_user::text, rolsuper, rolbypassrls,
                   pg_catalog.pg_has_role('pg_monitor', 'USAGE'),
                   pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')
              FROM pg_catalog.pg_roles WHERE rolname = current_user
            """
        ).fetchone()
        assert row is not None
        rights = session.connection.execute(_RIGHTS, {"wanted": list(schemas)}).fetchall()
    return RoleLook(
        name=row[0],
        login=row[1],
        superuser=row[2],
        bypasses_rls=row[3],
        monitors=row[4],
        creates_schemas=row[5],
        schemas=tuple(SchemaRights(name=n, exists=e, usage=u, create=c) for n, e, u, c in rights),
    )


def look_at_login(session: Session, ledger_schema: str, *, role: str | None, reader: str, backup_role: str) -> Login:
    """Ask what the login, whatever role it took, belongs to. Read-only. Raises as `look_at_server` does."""
    given = {"schema": ledger_schema, "role": role, "reader": reader, "backup": backup_role}
    with guard(session.target):
        row = session.connection.execute(_LOGIN, given).fetchone()
    assert row is not None
    return Login(
        name=row[0], superuser=row[1], ledger=row[2], owns=row[3], reads=row[4], backs_up=row[5], founds=row[6]
    )


def quoted(session: Session, name: str) -> str:
    """Return a name as SQL writes it."""
    return psycopg.sql.Identifier(name).as_string(session.connection)


_RIGHTS = """
SELECT wanted.name, n.oid IS NOT NULL,
       COALESCE(pg_catalog.has_schema_privilege(n.oid, 'USAGE'), false),
       COALESCE(pg_catalog.has_schema_privilege(n.oid, 'CREATE'), false)
  FROM pg_catalog.unnest(%(wanted)s::text[]) WITH ORDINALITY AS wanted (name, place)
  LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = wanted.name
 ORDER BY wanted.place
"""

_LOGIN = """
WITH roles AS (
    SELECT rolname FROM pg_catalog.pg_roles WHERE pg_catalog.pg_has_role(session_user, oid, 'MEMBER')
)
SELECT session_user::text, r.rolsuper, l.oid IS NOT NULL,
       COALESCE(pg_catalog.pg_has_role(session_user, l.relowner, 'MEMBER'), false)
       OR EXISTS (SELECT FROM roles WHERE rolname = %(role)s::text),
       EXISTS (SELECT FROM roles WHERE rolname = %(reader)s::text),
       EXISTS (SELECT FROM roles WHERE rolname = %(backup)s::text),
       COALESCE(pg_catalog.has_schema_privilege(session_user, n.oid, 'CREATE'),
                pg_catalog.has_database_privilege(session_user, pg_catalog.current_database(), 'CREATE'))
       AND session_user NOT IN (%(reader)s::text, %(backup)s::text)
  FROM pg_catalog.pg_roles r
  LEFT JOIN pg_catalog.pg_namespace n ON n.nspname = %(schema)s::text
  LEFT JOIN pg_catalog.pg_class l ON l.relnamespace = n.oid AND l.relname = 'schema_migrations' AND l.relkind IN ('r', 'p')
 WHERE r.rolname = session_user
"""

"""What a server must have before a backup can be restored into it: roles, extensions, tablespaces, an empty database.

Looks, and makes stand-ins for missing roles. Everything here is asked before a restore begins.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import psycopg
from psycopg import sql

# Members of extensions are passed over: a dump says CREATE EXTENSION IF NOT EXISTS.
_OCCUPANTS = """
WITH own AS (SELECT oid, nspname FROM pg_catalog.pg_namespace
              WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'),
     members AS (SELECT classid, objid FROM pg_catalog.pg_depend WHERE deptype = 'e')
SELECT one, many, count FROM (
    SELECT 1 AS place, 'table, view or sequence' AS one, 'tables, views and sequences' AS many, count(*)
      FROM pg_catalog.pg_class c JOIN own ON own.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
       AND ('pg_catalog.pg_class'::regclass, c.oid) NOT IN (SELECT classid, objid FROM members)
    UNION ALL
    SELECT 2, 'function', 'functions', count(*)
      FROM pg_catalog.pg_proc p JOIN own ON own.oid = p.pronamespace
     WHERE ('pg_catalog.pg_proc'::regclass, p.oid) NOT IN (SELECT classid, objid FROM members)
    UNION ALL
    SELECT 3, 'type', 'types', count(*)
      FROM pg_catalog.pg_type t JOIN own ON own.oid = t.typnamespace
     WHERE (t.typtype IN ('e', 'd', 'r') OR t.typrelid IN (SELECT oid FROM pg_catalog.pg_class WHERE relkind = 'c'))
       AND ('pg_catalog.pg_type'::regclass, t.oid) NOT IN (SELECT classid, objid FROM members)
    UNION ALL
    SELECT 4, 'schema', 'schemas', count(*)
      FROM own WHERE nspname <> 'public'
       AND ('pg_catalog.pg_namespace'::regclass, own.oid) NOT IN (SELECT classid, objid FROM members)
       AND own.oid NOT IN (SELECT extnamespace FROM pg_catalog.pg_extension)
    UNION ALL SELECT 5, 'large object', 'large objects', count(*) FROM pg_catalog.pg_largeobject_metadata
    UNION ALL SELECT 6, 'publication', 'publications', count(*) FROM pg_catalog.pg_publication
) AS found (place, one, many, count) WHERE count > 0 ORDER BY place
"""


def occupants(connection: psycopg.Connection) -> tuple[str, ...]:
    """Return what is in the database, in words ("12 tables, views and sequences"); () means that it is empty."""
    rows = connection.execute(_OCCUPANTS).fetchall()
    return tuple(f"{count} {one if count == 1 else many}" for one, many, count in rows)


def missing_roles(connection: psycopg.Connection, roles: Sequence[str]) -> tuple[str, ...]:
    """Return those of `roles` that the server does not have, sorted."""
    rows = connection.execute(
        "SELECT DISTINCT r FROM pg_catalog.unnest(%s::text[]) AS wanted (r) "
        "WHERE r NOT IN (SELECT rolname FROM pg_catalog.pg_roles) ORDER BY 1",
        (list(roles),),
    ).fetchall()
    return tuple(row[0] for row in rows)


def may_create_roles(connection: psycopg.Connection) -> bool:
    """Whether the effective role may make stand-ins."""
    row = connection.execute(
        "SELECT rolsuper OR rolcreaterole FROM pg_catalog.pg_roles WHERE rolname = current_user"
    ).fetchone()
    return bool(row and row[0])


def create_stand_ins(connection: psycopg.Connection, roles: Sequence[str], *, superusers: bool = False) -> None:
    """Create roles that can own and be granted things, but cannot log in. Raises psycopg.Error.

    `superusers` can own what only a superuser may (event triggers): for a server that is thrown away. A creator who is no superuser becomes a member: only members may hand objects over.
    """
    row = connection.execute("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user").fetchone()
    for role in roles:
        ending = sql.SQL(" SUPERUSER" if superusers else "")
        connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role)) + ending)
        if not (row and row[0]):
            connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(role)))


def drop_stand_ins(connection: psycopg.Connection, roles: Sequence[str]) -> None:
    """Take stand-ins of a failed restore away again; one that something depends on stays."""
    for role in roles:
        try:
            connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))
        except psycopg.Error:
            continue


def missing_extensions(connection: psycopg.Connection, extensions: Sequence[str]) -> tuple[str, ...]:
    """Return those of `extensions` that are not installed on the server's machine, sorted."""
    rows = connection.execute(
        "SELECT e FROM pg_catalog.unnest(%s::text[]) AS wanted (e) "
        "WHERE e NOT IN (SELECT name FROM pg_catalog.pg_available_extensions) ORDER BY 1",
        (list(extensions),),
    ).fetchall()
    return tuple(row[0] for row in rows)


def uncreatable_extensions(connection: psycopg.Connection, extensions: Sequence[str]) -> tuple[str, ...]:
    """Return those of `extensions` that the server has and cannot make here, sorted: a library must be preloaded, or they
    want a database of their own. They are tried, and nothing of that stays. `connection` must be in an empty database."""
    found = []
    with connection.transaction(force_rollback=True):
        for name in extensions:
            try:
                with connection.transaction():
                    connection.execute(
                        sql.SQL("CREATE EXTENSION IF NOT EXISTS {} CASCADE").format(sql.Identifier(name))
                    )
            except psycopg.Error:
                found.append(name)
    return tuple(sorted(found))


def create_versions(connection: psycopg.Connection, wanted: Iterable[tuple[str, str, str]]) -> None:
    """Create extensions (name, version, schema) at just these versions, as far as that goes: not at the default one.

    `connection` is in an empty database, in autocommit. One that has no script here for its version, or a schema that is
    not there yet, is left to the restore, which makes it at the default version.
    """
    for name, version, schema in wanted:
        try:
            connection.execute(
                sql.SQL("CREATE EXTENSION {} WITH SCHEMA {} VERSION {}").format(
                    sql.Identifier(name), sql.Identifier(schema), sql.Literal(version)
                )
            )
        except psycopg.Error:
            continue


def extension_versions(connection: psycopg.Connection) -> dict[str, str]:
    """Return the extensions of the database and their versions."""
    return dict(connection.execute("SELECT extname::text, extversion FROM pg_catalog.pg_extension").fetchall())


def missing_tablespaces(connection: psycopg.Connection, tablespaces: Sequence[str]) -> tuple[str, ...]:
    """Return those of `tablespaces` that the server does not have, sorted."""
    rows = connection.execute(
        "SELECT t FROM pg_catalog.unnest(%s::text[]) AS wanted (t) "
        "WHERE t NOT IN (SELECT spcname FROM pg_catalog.pg_tablespace) ORDER BY 1",
        (list(tablespaces),),
    ).fetchall()
    return tuple(row[0] for row in rows)


def lock_capacity(connection: psycopg.Connection) -> int:
    """Return how many objects one transaction can surely lock (max_locks_per_transaction times the sessions)."""
    row = connection.execute(
        "SELECT pg_catalog.current_setting('max_locks_per_transaction')::bigint * "
        "(pg_catalog.current_setting('max_connections')::bigint + "
        "pg_catalog.current_setting('max_prepared_transactions')::bigint)"
    ).fetchone()
    assert row is not None
    return int(row[0])

"""Materialized views of a restored copy: filled at the end, each by itself, and never what could leave the copy.

A dump holds their queries and not their rows. One that cannot be filled stays empty, and nothing else fails.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from lockstep.core.rehearsal.outside import reaching_routines
from lockstep.postgres.archivelist import Entry
from lockstep.postgres.reaching import Name, read_exits

#: Forbids foreign tables in every query, and in what it calls; servers of August 2024 and later know it.
_RESTRICTION = "restrict_nonsystem_relation_kind"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfilled:
    """A materialized view that has rows at the source, and none here."""

    schema: str
    name: str
    why: str  # without a word of the server's, which may quote a row

    @property
    def shown(self) -> str:
        """`schema.name`, as traces say it."""
        return f"{self.schema}.{self.name}"


def fill_views(
    connection: psycopg.Connection[Any], entries: Iterable[Entry], *, none: bool = False
) -> tuple[Unfilled, ...]:
    """Fill the materialized views that are filled at the source: those whose rows `entries` stand for, in their order.

    Returns those that stay empty: what reads a foreign table or calls what reaches outside is never tried, with `none`
    nothing is. `connection` is in autocommit.
    """
    views = connection.execute(_UNFILLED).fetchall()
    wanted: dict[Name, None] = {}
    for entry in entries:
        fitting = [(schema, name) for schema, name in views if entry.is_of(schema, name)]
        if fitting:
            wanted[max(fitting, key=lambda one: len(one[1]))] = None  # names may have spaces
    if not wanted:
        return ()
    leaving = _leaving(connection)
    left = []
    restrict(connection)
    for schema, name in wanted:
        why = "other machines can be reached from this server" if none else leaving.get((schema, name))
        if why is None:
            try:
                connection.execute(sql.SQL("REFRESH MATERIALIZED VIEW {}").format(sql.Identifier(schema, name)))
                continue
            except psycopg.errors.OperationalError as error:
                if connection.broken:
                    raise
                why = f"its query fails here: SQLSTATE {error.sqlstate}"
            except psycopg.Error as error:
                why = f"its query fails here: SQLSTATE {error.sqlstate}"
        left.append(Unfilled(schema=schema, name=name, why=why))
    unrestrict(connection)
    return tuple(left)


def restrict(connection: psycopg.Connection[Any], *, database: str | None = None) -> None:
    """Forbid foreign tables to the session, or to all that come into a database, where the server knows how."""
    if _knows(connection):
        where = sql.SQL("ALTER DATABASE {}").format(sql.Identifier(database)) if database else sql.SQL("")
        connection.execute(where + sql.SQL(f" SET {_RESTRICTION} = 'foreign-table'"))


def unrestrict(connection: psycopg.Connection[Any], *, database: str | None = None) -> None:
    """Allow them again."""
    if _knows(connection):
        where = sql.SQL("ALTER DATABASE {}").format(sql.Identifier(database)) if database else sql.SQL("")
        connection.execute(where + sql.SQL(f" RESET {_RESTRICTION}"))
        if database:
            connection.execute(sql.SQL(f"SET {_RESTRICTION} = ''"))  # the session has the database's


def _knows(connection: psycopg.Connection[Any]) -> bool:
    row = connection.execute("SELECT FROM pg_catalog.pg_settings WHERE name = %s", (_RESTRICTION,)).fetchone()
    return row is not None


def _leaving(connection: psycopg.Connection[Any]) -> dict[Name, str]:
    """The materialized views whose query leaves the database, and how."""
    exits = read_exits(connection)
    routines = reaching_routines(exits.routines)
    found = {}
    for schema, name, function in connection.execute(_CALLS).fetchall():
        if function in routines:
            found[schema, name] = f"it calls {function}, which {routines[function]}"
    return found | {view: f"it reads the foreign table {table}" for view, table in exits.refreshed.items()}


_UNFILLED = """
SELECT n.nspname::text, c.relname::text FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'm' AND NOT c.relispopulated ORDER BY c.oid
"""

#: Functions that the query of a materialized view calls, directly or through views.
_CALLS = """
WITH RECURSIVE readings (view, relation) AS (
    SELECT oid, oid FROM pg_catalog.pg_class WHERE relkind = 'm'
    UNION
    SELECT r.view, d.refobjid
    FROM readings r
    JOIN pg_catalog.pg_rewrite w ON w.ev_class = r.relation AND w.ev_type = '1'
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = w.oid
        AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
)
SELECT DISTINCT n.nspname::text, c.relname::text, pn.nspname || '.' || p.proname
FROM readings r
JOIN pg_catalog.pg_class c ON c.oid = r.view
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_rewrite w ON w.ev_class = r.relation AND w.ev_type = '1'
JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = w.oid
    AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass
JOIN pg_catalog.pg_proc p ON p.oid = d.refobjid
JOIN pg_catalog.pg_namespace pn ON pn.oid = p.pronamespace
"""

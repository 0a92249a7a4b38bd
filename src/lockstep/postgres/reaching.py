"""What of a database leads outside of it: foreign tables and what is built on them, functions, triggers. Read-only."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import psycopg

from lockstep.core.rehearsal.outside import Routine

Name = tuple[str, str]  # schema, name


@dataclass(frozen=True, slots=True, kw_only=True)
class Exits:
    """What the catalog shows."""

    foreign: dict[Name, str]  # relation -> the foreign table that it leads to
    refreshed: dict[Name, str]  # materialized view -> the same, when it is refreshed
    routines: tuple[Routine, ...]  # all but PostgreSQL's own
    triggers: dict[Name, tuple[str, ...]]  # table -> functions of its triggers, as `schema.name`


def read_exits(connection: psycopg.Connection[Any]) -> Exits:
    """Read it all: three queries."""
    foreign = connection.execute(files("lockstep.postgres").joinpath("sql/reaching.sql").read_bytes()).fetchall()
    routines = connection.execute(_ROUTINES).fetchall()
    triggers: dict[Name, tuple[str, ...]] = {}
    for schema, name, function in connection.execute(_TRIGGERS).fetchall():
        triggers[schema, name] = (*triggers.get((schema, name), ()), function)
    return Exits(
        foreign={(schema, name): table for schema, name, table, materialized in foreign if not materialized},
        refreshed={(schema, name): table for schema, name, table, materialized in foreign if materialized},
        routines=tuple(
            Routine(schema=schema, name=name, code=code, extension=extension, language=language)
            for schema, name, code, extension, language in routines
        ),
        triggers=triggers,
    )


_ROUTINES = """
SELECT n.nspname, p.proname,
    CASE WHEN e.extname IS NOT NULL THEN '' WHEN p.prosqlbody IS NULL THEN p.prosrc
        ELSE pg_catalog.pg_get_function_sqlbody(p.oid) END,
    e.extname, l.lanname
FROM pg_catalog.pg_proc AS p
JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
JOIN pg_catalog.pg_language AS l ON l.oid = p.prolang
LEFT JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid
    AND d.deptype = 'e' AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
LEFT JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid
WHERE p.oid >= 16384
ORDER BY n.nspname, p.proname
"""  # OIDs below belong to the server itself

_TRIGGERS = """
SELECT n.nspname, c.relname, pn.nspname || '.' || p.proname
FROM pg_catalog.pg_trigger AS t
JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_proc AS p ON p.oid = t.tgfoid
JOIN pg_catalog.pg_namespace AS pn ON pn.oid = p.pronamespace
WHERE NOT t.tgisinternal AND t.tgenabled <> 'D'
ORDER BY n.nspname, c.relname, t.tgname
"""

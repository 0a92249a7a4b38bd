"""How the relations of a database lead to one another, as the catalog knows it: of a copy without rows, too. Read-only."""

from __future__ import annotations

from typing import Any

import psycopg

from lockstep.core.rehearsal.closure import Graph


def read_graph(connection: psycopg.Connection[Any]) -> Graph:
    """Return what leads to what in the database that `connection` is in, but for the system's own."""
    relations = connection.execute(_RELATIONS).fetchall()
    return Graph(
        relations={oid: (schema, name) for oid, schema, name, _ in relations},
        tables=frozenset(oid for oid, _, _, own in relations if own),
        references=tuple(connection.execute(_REFERENCES).fetchall()),
        parts=tuple(connection.execute(_PARTS).fetchall()),
        reads=tuple(connection.execute(_READS).fetchall()),
        triggers=tuple(connection.execute(_TRIGGERS).fetchall()),
        others=tuple(connection.execute(_OTHERS).fetchall()),
        functions={oid: (name, source) for oid, name, source in connection.execute(_FUNCTIONS).fetchall()},
    )


_OWN = "SELECT oid FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"

_RELATIONS = f"""
SELECT c.oid::bigint, n.nspname::text, c.relname::text, c.relkind = 'r'
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.oid IN ({_OWN})
"""  # noqa: S608  # a constant of ours

_REFERENCES = """
SELECT conrelid::bigint, confrelid::bigint FROM pg_catalog.pg_constraint WHERE contype = 'f'
"""

_PARTS = "SELECT inhparent::bigint, inhrelid::bigint FROM pg_catalog.pg_inherits"

_READS = """
SELECT DISTINCT r.ev_class::bigint, d.refobjid::bigint FROM pg_catalog.pg_rewrite r
JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid
WHERE d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid <> r.ev_class
"""

_TRIGGERS = "SELECT tgrelid::bigint, tgfoid::bigint FROM pg_catalog.pg_trigger WHERE NOT tgisinternal"

_OTHERS = """
SELECT c.relname::text, i.indrelid::bigint FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
UNION
SELECT t.typname::text, a.attrelid::bigint FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE t.typtype IN ('d', 'e', 'c', 'r') AND t.oid >= 16384 AND a.attnum > 0 AND NOT a.attisdropped
"""

_FUNCTIONS = f"""
SELECT p.oid::bigint, p.proname::text, COALESCE(pg_catalog.pg_get_function_sqlbody(p.oid), p.prosrc)
FROM pg_catalog.pg_proc p WHERE p.prokind IN ('f', 'p') AND p.pronamespace IN ({_OWN})
"""  # noqa: S608  # as above

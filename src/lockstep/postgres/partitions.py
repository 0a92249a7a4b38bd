"""The partitioned tables of a database: by what they are divided, and into what. Read-only."""

from __future__ import annotations

from typing import Any

import psycopg

from lockstep.core.locking.nodes import Relation
from lockstep.core.rehearsal.advice import Name, Partitioned

_STRATEGIES = {"l": "list", "r": "range", "h": "hash"}

_QUERY = """
SELECT n.nspname, c.relname, p.partstrat::text,
    CASE WHEN 0 = ANY (p.partattrs::int2[]) THEN '{}'::text[] ELSE (
        SELECT pg_catalog.array_agg(a.attname::text ORDER BY pg_catalog.array_position(p.partattrs::int2[], a.attnum))
        FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum = ANY (p.partattrs::int2[])
    ) END,
    (
        SELECT pg_catalog.array_agg(ARRAY[kn.nspname::text, k.relname::text] ORDER BY kn.nspname, k.relname)
        FROM pg_catalog.pg_inherits AS i
        JOIN pg_catalog.pg_class AS k ON k.oid = i.inhrelid
        JOIN pg_catalog.pg_namespace AS kn ON kn.oid = k.relnamespace
        WHERE i.inhparent = c.oid
    ),
    EXISTS (
        SELECT FROM pg_catalog.pg_inherits AS i JOIN pg_catalog.pg_class AS k ON k.oid = i.inhrelid
        WHERE i.inhparent = c.oid AND k.relkind <> 'r'
    )
FROM pg_catalog.pg_partitioned_table AS p
JOIN pg_catalog.pg_class AS c ON c.oid = p.partrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
"""


def read_partitioned(connection: psycopg.Connection[Any]) -> dict[Name, Partitioned]:
    """Return every partitioned table by schema and name."""
    return {
        (schema, name): Partitioned(
            strategy=_STRATEGIES.get(strategy, strategy),
            columns=tuple(columns),
            partitions=tuple(Relation(schema=one, name=other) for one, other in parts or ()),
            nested=nested,
        )
        for schema, name, strategy, columns, parts, nested in connection.execute(_QUERY).fetchall()
    }

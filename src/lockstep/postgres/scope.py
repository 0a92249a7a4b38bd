"""What of a database a role can read whole: a dump that lacks something without a word would be worse than none.

Asks the catalog and nothing else. What follows from the answer is the caller's to decide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from lockstep.postgres.snapshot import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A table or sequence that belongs into the dump and that the role cannot read whole."""

    name: str  # schema.table
    reason: str  # in words


def unreadable(snapshot: Snapshot, *, exclude_schemas: Sequence[str] = ()) -> tuple[Unreadable, ...]:
    """Return what the snapshot's role cannot read whole, by name. Read-only."""
    with snapshot.looking() as connection:
        rows = connection.execute(_UNREADABLE, {"excluded": list(exclude_schemas)}).fetchall()
    return tuple(Unreadable(name=name, reason=reason) for name, reason in rows)


def replaced_tables(snapshot: Snapshot) -> tuple[str, ...]:
    """Return the tables whose rows the snapshot cannot see any more: truncated, rewritten or dropped since. Read-only.

    Nothing but a lock keeps that away: TRUNCATE and a rewriting ALTER TABLE are not MVCC-safe (the manual, 13.6
    "Caveats"), the old snapshot finds an empty table. Asked when pg_dump has its locks, () proves its archive; VACUUM
    FULL and CLUSTER, which keep old rows, are named as well.
    """
    with snapshot.looking() as connection:
        # A lock that this transaction does not hold yet: taking it makes the session hear what others committed.
        connection.execute("SELECT pg_catalog.pg_relation_size('pg_catalog.pg_seclabel')")
        return tuple(name for (name,) in connection.execute(_REPLACED, {"excluded": []}).fetchall())


# What a dump takes of classes `c` in namespaces `n`. Members of an extension are not dumped, but for its configuration
# tables.
DUMPED = sql.SQL("""n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND n.nspname <> ALL (%(excluded)s::text[])
  AND NOT EXISTS (
      SELECT FROM pg_catalog.pg_depend d
      JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
      WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.objsubid = 0
        AND d.refclassid = 'pg_catalog.pg_extension'::regclass AND d.deptype = 'e'
        AND c.oid <> ALL (COALESCE(e.extconfig, '{{}}'))
  )""").format()

# A partitioned parent holds no rows of its own, so its policies filter nothing: pg_dump reads each leaf with COPY ONLY,
# by the leaf's own policies.
_UNREADABLE = sql.SQL("""
SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) AS name, reason
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT CASE
        WHEN NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE') THEN 'no USAGE on its schema'
        WHEN NOT pg_catalog.has_table_privilege(c.oid, 'SELECT') THEN 'no SELECT'
        WHEN c.relkind = 'r' AND pg_catalog.row_security_active(c.oid) THEN 'row level security filters it'
    END AS reason
) AS judged
WHERE c.relkind IN ('r', 'p', 'S') AND {dumped} AND reason IS NOT NULL
ORDER BY 1
""").format(dumped=DUMPED)

# The row is the snapshot's, the function's answer today's.
_REPLACED = sql.SQL("""
SELECT pg_catalog.format('%%I.%%I', n.nspname, c.relname)
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relfilenode <> 0 AND {dumped}
  AND pg_catalog.pg_relation_filenode(c.oid) IS DISTINCT FROM c.relfilenode
ORDER BY 1
""").format(dumped=DUMPED)

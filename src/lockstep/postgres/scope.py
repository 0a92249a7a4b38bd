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
    """Something that belongs into the dump and that the role cannot read whole."""

    schema: str | None  # None: in no schema
    name: str  # schema.table; "large object 16412"
    reason: str  # in words
    grant: str  # the statement that mends it


def unreadable(snapshot: Snapshot, *, exclude_schemas: Sequence[str] = ()) -> tuple[Unreadable, ...]:
    """Return what the snapshot's role cannot read whole, by name: tables, sequences, large objects. Read-only.

    Materialized views are not among them: a dump holds their definition alone, which everybody may read.
    """
    large_objects = _LARGE_OBJECTS_18 if snapshot.server_version_num >= 180000 else _LARGE_OBJECTS
    with snapshot.looking() as connection:
        rows = connection.execute(_UNREADABLE, {"excluded": list(exclude_schemas)}).fetchall()
        rows += connection.execute(large_objects).fetchall()
    return tuple(Unreadable(schema=s, name=name, reason=reason, grant=grant) for s, name, reason, grant in rows)


def foreign_owners(snapshot: Snapshot) -> dict[str, str]:
    """Return the owner of each schema whose owner the snapshot's role is not a member of. Read-only."""
    with snapshot.looking() as connection:
        return dict(connection.execute(_FOREIGN_OWNERS).fetchall())


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
SELECT n.nspname::text, pg_catalog.format('%%I.%%I', n.nspname, c.relname) AS name, reason,
       CASE
           WHEN reason LIKE 'no USAGE%%' THEN pg_catalog.format('GRANT USAGE ON SCHEMA %%I TO %%I', n.nspname, current_user)
           WHEN reason = 'no SELECT' THEN pg_catalog.format('GRANT SELECT ON %%s%%I.%%I TO %%I',
               CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE '' END, n.nspname, c.relname, current_user)
           ELSE pg_catalog.format('ALTER ROLE %%I BYPASSRLS', current_user)
       END
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT CASE
        WHEN NOT pg_catalog.has_schema_privilege(n.oid, 'USAGE') THEN 'no USAGE on its schema'
        WHEN c.relkind = 'S' THEN
            CASE WHEN NOT pg_catalog.has_sequence_privilege(c.oid, 'SELECT') THEN 'no SELECT' END
        WHEN NOT pg_catalog.has_table_privilege(c.oid, 'SELECT') THEN 'no SELECT'
        WHEN c.relkind = 'r' AND pg_catalog.row_security_active(c.oid) THEN 'row level security filters it'
    END AS reason
) AS judged
WHERE c.relkind IN ('r', 'p', 'S') AND {dumped} AND reason IS NOT NULL
ORDER BY 2
""").format(dumped=DUMPED)

# One of each owner and grants: there may be millions. pg_read_all_data is for tables only.
_ALIKE = sql.SQL("""
SELECT NULL, 'large object ' || first || CASE WHEN number > 1 THEN ' and ' || number - 1 || ' more like it' ELSE '' END,
       'no SELECT', pg_catalog.format('GRANT SELECT ON LARGE OBJECT %s TO %I', first, current_user)
FROM (SELECT pg_catalog.min(m.oid::int8) AS first, pg_catalog.count(*) AS number, m.lomowner AS owner, m.lomacl::text AS acl
      FROM pg_catalog.pg_largeobject_metadata m GROUP BY m.lomowner, m.lomacl::text) AS alike
""")
_LARGE_OBJECTS = _ALIKE + sql.SQL("""
WHERE NOT pg_catalog.current_setting('lo_compat_privileges')::bool
  AND NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
  AND NOT pg_catalog.pg_has_role(owner, 'USAGE')
  AND NOT EXISTS (
    SELECT FROM pg_catalog.aclexplode(acl::aclitem[]) a
    WHERE a.privilege_type = 'SELECT' AND (a.grantee = 0 OR pg_catalog.pg_has_role(a.grantee, 'USAGE')))
ORDER BY 2
""")
_LARGE_OBJECTS_18 = _ALIKE + sql.SQL("""
WHERE NOT pg_catalog.has_largeobject_privilege(first::oid, 'SELECT')
ORDER BY 2
""")

_FOREIGN_OWNERS = """
SELECT nspname::text, pg_catalog.pg_get_userbyid(nspowner)::text FROM pg_catalog.pg_namespace
WHERE NOT pg_catalog.pg_has_role(nspowner, 'MEMBER')
"""

# The row is the snapshot's, the function's answer today's.
_REPLACED = sql.SQL("""
SELECT pg_catalog.format('%%I.%%I', n.nspname, c.relname)
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relfilenode <> 0 AND {dumped}
  AND pg_catalog.pg_relation_filenode(c.oid) IS DISTINCT FROM c.relfilenode
ORDER BY 1
""").format(dumped=DUMPED)

"""How many objects of each kind a database has: a restored copy must have as many as its source.

It must not name them: a count is enough to see that a part of a dump was not restored. Members of extensions and the
system's own are passed over; subscriptions, which are not restored, are not counted.
"""

from __future__ import annotations

import psycopg

from lockstep.core.contents import ObjectCount

_OBJECTS = """
WITH own AS (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'),
     members AS (SELECT classid, objid FROM pg_catalog.pg_depend WHERE deptype = 'e'),
     relations AS (SELECT c.oid, c.relkind FROM pg_catalog.pg_class c
                    WHERE c.relnamespace IN (SELECT oid FROM own) AND NOT EXISTS (
                          SELECT FROM members m WHERE m.classid = 'pg_catalog.pg_class'::regclass AND m.objid = c.oid))
SELECT kind, count FROM (
    SELECT CASE relkind WHEN 'r' THEN 'tables' WHEN 'p' THEN 'partitioned tables' WHEN 'v' THEN 'views'
                        WHEN 'm' THEN 'materialized views' WHEN 'S' THEN 'sequences' ELSE 'foreign tables' END, count(*)
      FROM relations WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f') GROUP BY 1
    UNION ALL
    SELECT 'indexes', count(*) FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
     WHERE i.indisvalid AND c.relkind = 'i' AND i.indrelid IN (SELECT oid FROM relations)
    UNION ALL
    SELECT 'constraints', count(*) FROM pg_catalog.pg_constraint
     WHERE contype IN ('c', 'f', 'p', 'u', 'x') AND conrelid IN (SELECT oid FROM relations)
    UNION ALL
    SELECT 'triggers', count(*) FROM pg_catalog.pg_trigger
     WHERE NOT tgisinternal AND tgrelid IN (SELECT oid FROM relations)
    UNION ALL
    SELECT 'policies', count(*) FROM pg_catalog.pg_policy WHERE polrelid IN (SELECT oid FROM relations)
    UNION ALL
    SELECT 'functions', count(*) FROM pg_catalog.pg_proc p
     WHERE p.pronamespace IN (SELECT oid FROM own) AND NOT EXISTS (
           SELECT FROM members m WHERE m.classid = 'pg_catalog.pg_proc'::regclass AND m.objid = p.oid)
    UNION ALL
    SELECT 'types', count(*) FROM pg_catalog.pg_type t
     WHERE t.typtype IN ('d', 'e', 'r') AND t.typnamespace IN (SELECT oid FROM own) AND NOT EXISTS (
           SELECT FROM members m WHERE m.classid = 'pg_catalog.pg_type'::regclass AND m.objid = t.oid)
    UNION ALL
    SELECT 'extensions', count(*) FROM pg_catalog.pg_extension
    UNION ALL
    SELECT 'publications', count(*) FROM pg_catalog.pg_publication
    UNION ALL
    SELECT 'event triggers', count(*) FROM pg_catalog.pg_event_trigger e WHERE NOT EXISTS (
           SELECT FROM members m WHERE m.classid = 'pg_catalog.pg_event_trigger'::regclass AND m.objid = e.oid)
) AS counted (kind, count) WHERE count > 0 ORDER BY kind
"""


def count_objects(connection: psycopg.Connection) -> tuple[ObjectCount, ...]:
    """Count the objects of the database that `connection` is in, by kind; kinds with none are left out. Read-only."""
    rows = connection.execute(_OBJECTS).fetchall()
    return tuple(ObjectCount(kind=kind, count=count) for kind, count in rows)

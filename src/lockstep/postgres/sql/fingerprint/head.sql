-- Every object of the covered schemas, one row each, in one query. Its parts are joined by UNION ALL inside `base`;
-- comments and grants are then read of whatever is in it. Names, never numbers: no OID, no attnum, no statistics. Sorted by text is
-- sorted COLLATE "C": databases differ in their collations.
-- Columns: classid, objid, subid (what comments and grants refer to), kind, schema, parent, name, definition (NULL: only
-- there for its comments and grants), body (what this major version deparses), xid (of the catalog's row), acl, owner, acl_kind.
WITH own AS MATERIALIZED (
    SELECT oid, nspname::text AS schema FROM pg_namespace WHERE nspname = ANY ({schemas}::text[])),
members AS MATERIALIZED (
    SELECT classid, objid FROM pg_depend WHERE deptype = 'e' AND refclassid = 'pg_extension'::regclass),
relations AS MATERIALIZED (
    SELECT c.oid, o.schema, c.relname::text AS name, c.relkind, c.relpersistence, c.reloptions, c.relam, c.reloftype,
           c.relispartition, c.relrowsecurity, c.relforcerowsecurity, c.relreplident, c.relacl, c.relowner, c.relpartbound,
           c.reltoastrelid, c.xmin AS xid
      FROM pg_class c JOIN own o ON o.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S', 'c', 'i', 'I')
       AND NOT EXISTS (SELECT FROM members m WHERE m.classid = 'pg_class'::regclass AND m.objid = c.oid)
       AND NOT (o.schema = {ledger} AND c.relkind = 'r' AND c.relname = ANY ({ledger_tables}))
       -- An older tool's ledger may have brought a sequence along.
       AND NOT (c.relkind = 'S' AND EXISTS (
           SELECT FROM pg_depend d JOIN pg_class l ON l.oid = d.refobjid
            WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
              AND l.relname = ANY ({ledger_tables}) AND l.relnamespace = c.relnamespace AND o.schema = {ledger}))),
tables AS MATERIALIZED (SELECT * FROM relations WHERE relkind IN ('r', 'p', 'v', 'm', 'f')),
indexes AS MATERIALIZED (
    SELECT i.indexrelid AS oid, i.indrelid AS relid, t.schema, t.name AS relation, r.name, r.reloptions, i.indisvalid, i.indisclustered,
           i.indisreplident, r.xid, i.xmin AS index_xid, k.oid AS constraint_oid,
           (SELECT string_agg(format(' ALTER COLUMN %s SET STATISTICS %s', a.attnum, a.attstattarget), '' ORDER BY a.attnum)
              FROM pg_attribute a WHERE a.attrelid = i.indexrelid AND a.attstattarget >= 0) AS statistics
      FROM pg_index i
      JOIN tables t ON t.oid = i.indrelid
      JOIN relations r ON r.oid = i.indexrelid
      LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid AND k.contype IN ('p', 'u', 'x')
     -- What REINDEX CONCURRENTLY works with, and leaves behind when it fails: `lockstep health` names such leftovers.
     WHERE i.indisvalid OR r.name !~ '_cc(new|old)[0-9]*$'),
base AS MATERIALIZED (

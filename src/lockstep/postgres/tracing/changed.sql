-- What relations are by now: some of them, or all whose catalog row was written since a transaction's number.
SELECT c.oid::bigint, c.relkind::text, c.relispartition,
       pg_catalog.concat(pg_catalog.quote_ident(n.nspname), '.', pg_catalog.quote_ident(c.relname)),
       c.relfilenode::bigint, i.indrelid::bigint, pg_catalog.pg_relation_size(c.oid)
  FROM ({which}) which (oid)
  JOIN pg_catalog.pg_class c ON c.oid = which.oid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid
 WHERE c.oid >= 16384 AND c.relkind <> 't' AND n.nspname <> 'pg_toast'

-- Every relation that no catalog is, as the plan finds it. What the server brings has numbers below 16384.
-- An index comes with its table; a TOAST table and its index with the table that they belong to.
SELECT c.oid::bigint, c.relkind::text, c.relispartition,
       pg_catalog.concat(pg_catalog.quote_ident(n.nspname), '.', pg_catalog.quote_ident(c.relname)),
       c.relfilenode::bigint, i.indrelid::bigint, coalesce(owner.oid, indexed.oid)::bigint
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid
  LEFT JOIN pg_catalog.pg_class owner ON owner.reltoastrelid = c.oid AND c.relkind = 't'
  LEFT JOIN pg_catalog.pg_class indexed ON indexed.reltoastrelid = i.indrelid AND n.nspname = 'pg_toast'
 WHERE c.oid >= 16384

-- One look from inside a transaction: the strongest lock on each relation that it holds, what that relation is by now, and what
-- the transaction did to it. Only what is locked is looked up, one by one: the catalogs of a large schema are never read whole.
SELECT held.relation::bigint, held.rank, is_now.relkind::text, is_now.relispartition, is_now.name, is_now.relfilenode::bigint,
       is_now.indrelid::bigint, pg_catalog.pg_stat_get_xact_numscans(held.relation),
       pg_catalog.pg_stat_get_xact_tuples_returned(held.relation), pg_catalog.pg_stat_get_xact_tuples_inserted(held.relation),
       pg_catalog.pg_stat_get_xact_tuples_updated(held.relation), pg_catalog.pg_stat_get_xact_tuples_deleted(held.relation)
  FROM (
    SELECT l.relation, max(pg_catalog.array_position('{modes}'::text[], l.mode)) - 1 AS rank
      FROM pg_catalog.pg_locks l
     WHERE l.pid = pg_catalog.pg_backend_pid() AND l.locktype = 'relation' AND l.granted AND l.relation >= 16384
       AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
     GROUP BY l.relation) held
  -- LIMIT keeps it one index lookup for each, whatever the planner thinks of pg_locks.
  LEFT JOIN LATERAL (
    SELECT c.relkind, c.relispartition, c.relfilenode, i.indrelid,
           pg_catalog.concat(pg_catalog.quote_ident(n.nspname), '.', pg_catalog.quote_ident(c.relname)) AS name
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN pg_catalog.pg_index i ON i.indexrelid = c.oid
     WHERE c.oid = held.relation LIMIT 1) is_now ON true

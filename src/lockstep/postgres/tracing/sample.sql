-- The strongest lock that one session holds on each relation of this database, from another session.
SELECT l.relation::bigint, max(pg_catalog.array_position('{modes}'::text[], l.mode)) - 1
  FROM pg_catalog.pg_locks l
 WHERE l.pid = %s AND l.locktype = 'relation' AND l.granted AND l.relation >= 16384
   AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
 GROUP BY l.relation

-- Who waits for a lock in this database right now, and for whom. pg_locks shows it to everybody.
SELECT l.pid,
       a.usename::text AS "user",
       a.application_name AS application,
       max((extract(epoch FROM clock_timestamp() - coalesce(l.waitstart, a.query_start)) * 1000)::bigint) AS waiting_ms,
       min(CASE WHEN l.relation IS NOT NULL THEN (
           SELECT format('%I.%I', n.nspname, c.relname)
             FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = l.relation) END) AS relation,
       pg_blocking_pids(l.pid) AS blockers
  FROM pg_locks l
  JOIN pg_stat_activity a ON a.pid = l.pid AND a.datname = current_database()
 WHERE NOT l.granted
 GROUP BY l.pid, a.usename, a.application_name
 ORDER BY 4 DESC NULLS LAST, 1

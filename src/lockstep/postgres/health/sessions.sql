-- Clients of this database. For a role without pg_read_all_stats all but pid, user and application is NULL.
SELECT pid,
       usename::text AS "user",
       application_name AS application,
       state,
       backend_type IS NULL AS hidden,
       (extract(epoch FROM clock_timestamp() - xact_start) * 1000)::bigint AS transaction_ms,
       (extract(epoch FROM clock_timestamp() - state_change) * 1000)::bigint AS state_ms
  FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid()
   AND coalesce(backend_type, 'client backend') = 'client backend'
 ORDER BY xact_start, pid

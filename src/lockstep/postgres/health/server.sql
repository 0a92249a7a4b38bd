-- One row about the server: what everybody may see of it.
SELECT current_database()::text AS database,
       current_user::text AS role,
       ARRAY(SELECT nspname::text FROM pg_namespace ORDER BY oid) AS schemas,
       ARRAY(SELECT pg_get_userbyid(nspowner)::text FROM pg_namespace ORDER BY oid) AS owners,  -- of `schemas`
       clock_timestamp() AS now,
       pg_is_in_recovery() AS standby,
       -- pg_monitor's part that shows other roles' sessions. A superuser has it, too.
       pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS sees_sessions,
       current_setting('max_connections')::int AS max_connections,
       current_setting('superuser_reserved_connections')::int
           + coalesce(current_setting('reserved_connections', true)::int, 0) AS reserved_connections,
       (SELECT sum(numbackends)::int FROM pg_stat_database) AS connections,
       current_setting('autovacuum')::bool AND current_setting('track_counts')::bool AS autovacuum,
       current_setting('fsync')::bool AS fsync,
       current_setting('full_page_writes')::bool AS full_page_writes,
       current_setting('data_checksums')::bool AS checksums,
       current_setting('autovacuum_freeze_max_age')::bigint AS freeze_max_age,
       current_setting('autovacuum_multixact_freeze_max_age')::bigint AS multixact_freeze_max_age,
       -- Never reset since 15 is NULL. The server's own counters are as old as its directory, or the crash that lost all.
       coalesce(d.stats_reset, least(w.stats_reset, a.stats_reset)) AS statistics_since,
       current_setting('archive_mode') <> 'off' AS archiving,
       a.archived_count,
       a.failed_count,
       a.last_archived_time,
       a.last_failed_time,
       a.last_failed_wal
  FROM pg_stat_archiver a, pg_stat_bgwriter w, pg_stat_database d
 WHERE d.datname = current_database()

-- Standbys and subscribers that stream from here, and this server itself where it is one.
SELECT r.application_name AS name,
       host(r.client_addr) AS address,
       r.pid IS NOT NULL AND r.state IS NULL AND r.sent_lsn IS NULL AS hidden,
       r.state,
       pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END,
                       r.replay_lsn)::bigint AS behind,
       (extract(epoch FROM r.replay_lag) * 1000)::bigint AS lag_ms
  FROM pg_stat_replication r
UNION ALL
SELECT 'this standby', NULL, false, NULL,
       pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())::bigint,
       -- With nothing left to replay it is not behind, however long ago the primary wrote something.
       CASE WHEN pg_last_wal_receive_lsn() IS DISTINCT FROM pg_last_wal_replay_lsn()
            THEN (extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) * 1000)::bigint ELSE 0 END
 WHERE pg_is_in_recovery()
 ORDER BY 1, 2

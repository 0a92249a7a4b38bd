-- Replication slots, and how much WAL each makes the server keep.
SELECT slot_name::text AS name,
       slot_type AS type,
       database::text AS database,
       active,
       wal_status,
       pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END,
                       restart_lsn)::bigint AS retained,
       greatest(age(xmin), age(catalog_xmin))::bigint AS xid_age
  FROM pg_replication_slots
 WHERE NOT temporary
 ORDER BY 1

-- Prepared transactions of the whole server: each holds its locks and keeps VACUUM back until somebody ends it.
SELECT gid AS id, owner::text AS owner, database::text AS database,
       (extract(epoch FROM clock_timestamp() - prepared) * 1000)::bigint AS prepared_ms,
       age(transaction)::bigint AS xid_age
  FROM pg_prepared_xacts
 ORDER BY prepared, gid

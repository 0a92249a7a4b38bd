-- Bytes on disk of tables with their TOAST, without indexes. One that somebody has locked whole is left out: waiting
-- for it is no business of a look. The lock that the function takes is let go with each table.
SELECT o.oid::bigint AS oid, pg_table_size(o.oid) AS size
  FROM unnest(%(oids)s::oid[]) AS o(oid)
 WHERE NOT EXISTS (SELECT FROM pg_locks l WHERE l.relation = o.oid AND l.mode = 'AccessExclusiveLock'
                     AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()))

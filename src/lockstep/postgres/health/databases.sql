-- Age of the oldest transaction and multixact that each database may still hold, and checksum failures. All databases:
-- the one that is nearest to the end stops the writes of all. datname is NULL for the objects that all share.
SELECT coalesce(s.datname::text, 'shared objects') AS name,
       s.datname = current_database() AS current,
       age(d.datfrozenxid)::bigint AS xid_age,
       mxid_age(d.datminmxid)::bigint AS multixact_age,
       s.checksum_failures,
       s.checksum_last_failure
  FROM pg_stat_database s
  LEFT JOIN pg_database d ON d.oid = s.datid
 ORDER BY 1

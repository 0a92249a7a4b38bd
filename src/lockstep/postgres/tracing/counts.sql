-- What the server counted of tables that anything was done to since this copy was made: copies begin at zero.
SELECT c.oid::bigint, pg_catalog.pg_stat_get_numscans(c.oid), pg_catalog.pg_stat_get_tuples_returned(c.oid),
       pg_catalog.pg_stat_get_tuples_inserted(c.oid), pg_catalog.pg_stat_get_tuples_updated(c.oid),
       pg_catalog.pg_stat_get_tuples_deleted(c.oid)
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
 WHERE c.relkind IN ('r', 'm') AND {which} AND pg_catalog.pg_stat_have_stats('relation', d.oid, c.oid)

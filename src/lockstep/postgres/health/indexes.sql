-- Every index of our tables with all that tells two of them apart. Sizes are pages as VACUUM last counted them: asking
-- the disk would take a lock on each table.
WITH backing AS MATERIALIZED (
    SELECT conindid, bool_or(contype <> 'f') AS "constraint", bool_or(contype = 'f') AS referenced
      FROM pg_constraint WHERE conindid <> 0 GROUP BY 1),
-- To print an expression its table is opened: of one that is locked whole the raw form has to do.
locked AS MATERIALIZED (
    SELECT DISTINCT relation FROM pg_locks
     WHERE mode = 'AccessExclusiveLock'
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
SELECT n.nspname::text AS schema,
       t.relname::text AS "table",
       c.relname::text AS name,
       t.oid::bigint AS table_oid,
       c.relkind::text AS kind,
       a.amname::text AS method,
       i.indisvalid AS valid,
       -- A build on the way is invalid, too. Of another role's only its pid is shown; the lock tells the table.
       NOT i.indisvalid AND EXISTS (SELECT FROM pg_stat_progress_create_index p
                WHERE p.datname = current_database()
                  AND (p.index_relid = c.oid
                       OR p.relid IS NULL AND EXISTS (
                           SELECT FROM pg_locks l
                            WHERE l.pid = p.pid AND l.relation = t.oid AND l.granted
                              AND l.mode = 'ShareUpdateExclusiveLock'))) AS building,
       i.indisunique AS "unique",
       i.indisprimary AS "primary",
       i.indisexclusion AS exclusion,
       i.indisreplident AS replica_identity,
       i.indimmediate AS immediate,
       i.indisunique AND coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::bool, false) AS nulls_not_distinct,  -- since 15
       coalesce(b."constraint", false) AS "constraint",
       coalesce(b.referenced, false) AS referenced,
       c.relispartition AS attached,
       i.indnkeyatts::int AS keys,
       string_to_array(i.indkey::text, ' ')::int[] AS columns,
       string_to_array(i.indclass::text, ' ') AS classes,
       string_to_array(i.indcollation::text, ' ') AS collations,
       string_to_array(i.indoption::text, ' ') AS options,
       CASE WHEN i.indexprs IS NULL THEN NULL
            WHEN x.relation IS NULL THEN pg_get_expr(i.indexprs, i.indrelid) ELSE i.indexprs::text END AS expressions,
       CASE WHEN i.indpred IS NULL THEN NULL
            WHEN x.relation IS NULL THEN pg_get_expr(i.indpred, i.indrelid) ELSE i.indpred::text END AS predicate,
       coalesce(pg_stat_get_numscans(c.oid), 0) AS scans,
       c.relpages::bigint * current_setting('block_size')::int AS size
  FROM pg_index i
  JOIN pg_class c ON c.oid = i.indexrelid
  JOIN pg_am a ON a.oid = c.relam
  JOIN pg_class t ON t.oid = i.indrelid
  JOIN pg_namespace n ON n.oid = t.relnamespace
  LEFT JOIN backing b ON b.conindid = c.oid
  LEFT JOIN locked x ON x.relation = t.oid
 WHERE t.relkind IN ('r', 'm', 'p') AND t.relpersistence <> 't' AND {ours_t}
 ORDER BY 1, 2, 3

-- Every table with its counters. Sizes are pages as VACUUM and ANALYZE last counted them, without indexes.
SELECT n.nspname::text AS schema,
       c.relname::text AS name,
       c.oid::bigint AS oid,
       c.relkind::text AS kind,
       c.relispartition AS partition,
       greatest(c.reltuples, 0)::bigint AS rows,
       (c.relpages::bigint + coalesce(t.relpages, 0)) * current_setting('block_size')::int AS size,
       coalesce(pg_stat_get_live_tuples(c.oid), 0) AS live,
       coalesce(pg_stat_get_dead_tuples(c.oid), 0) AS dead,
       coalesce(pg_stat_get_mod_since_analyze(c.oid), 0) AS changed,
       greatest(pg_stat_get_last_analyze_time(c.oid), pg_stat_get_last_autoanalyze_time(c.oid)) AS analyzed_at,
       greatest(pg_stat_get_last_vacuum_time(c.oid), pg_stat_get_last_autovacuum_time(c.oid)) AS vacuumed_at,
       -- ANALYZE fills reltuples, also where the counters were lost since.
       c.reltuples >= 0 AS ever_counted,
       EXISTS (SELECT FROM unnest(c.reloptions) AS o(text)
                WHERE o.text ~* '^autovacuum_enabled=(off?|f|false|fa|fal|fals|no?|0)$') AS autovacuum_off,
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary) AS has_key,
       CASE c.relreplident
           WHEN 'n' THEN false
           WHEN 'd' THEN EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)
           ELSE true END AS identified,
       c.relpersistence = 'p' AND (
           EXISTS (SELECT FROM pg_publication_rel pr JOIN pg_publication p ON p.oid = pr.prpubid
                    WHERE pr.prrelid = c.oid AND (p.pubupdate OR p.pubdelete))
           OR EXISTS (SELECT FROM pg_publication p WHERE p.puballtables AND (p.pubupdate OR p.pubdelete))
       ) AS published
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
 WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't' AND {ours_c}
 ORDER BY 1, 2

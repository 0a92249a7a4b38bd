-- Foreign keys, and whatever is declared and not validated. Of partitions only what is theirs alone.
SELECT n.nspname::text AS schema,
       t.relname::text AS "table",
       k.conname::text AS name,
       t.oid::bigint AS table_oid,
       k.contype = 'f' AS "foreign",
       k.convalidated AS valid,
       k.conkey::int[] AS columns,
       ARRAY(SELECT a.attname::text
               FROM unnest(k.conkey) WITH ORDINALITY AS u(attnum, place)
               JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = u.attnum
              ORDER BY u.place) AS column_names,
       CASE WHEN k.contype = 'f' THEN (
           SELECT format('%I.%I', m.nspname, r.relname)
             FROM pg_class r JOIN pg_namespace m ON m.oid = r.relnamespace WHERE r.oid = k.confrelid) END AS "references",
       (t.relkind = 'p') AS partitioned,
       greatest(t.relpages, 0)::bigint * current_setting('block_size')::int AS table_size
  FROM pg_constraint k
  JOIN pg_class t ON t.oid = k.conrelid
  JOIN pg_namespace n ON n.oid = t.relnamespace
 WHERE (k.contype = 'f' OR NOT k.convalidated) AND k.conparentid = 0 AND t.relkind IN ('r', 'p')
   -- Since 18: not to be validated, on purpose.
   AND (k.convalidated OR coalesce((to_jsonb(k) ->> 'conenforced')::bool, true))
   AND {ours_t}
 ORDER BY 1, 2, 3

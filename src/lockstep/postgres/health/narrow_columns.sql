-- Columns of type smallint and integer that a foreign key makes take another column's numbers.
SELECT k.confrelid::bigint AS table_oid,
       pair.referred::int AS attnum,
       format('%I.%I.%I', n.nspname, r.relname, a.attname) AS name,
       format_type(a.atttypid, NULL) AS type
  FROM pg_constraint k
  CROSS JOIN LATERAL unnest(k.confkey, k.conkey) AS pair(referred, referring)
  JOIN pg_class r ON r.oid = k.conrelid
  JOIN pg_namespace n ON n.oid = r.relnamespace
  JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = pair.referring
 WHERE k.contype = 'f' AND k.conparentid = 0 AND a.atttypid IN ('int2'::regtype, 'int4'::regtype)
 ORDER BY a.attlen, 3

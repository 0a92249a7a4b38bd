-- Every sequence with the column that it feeds (owned, or named in the column's default), and the narrowest integer
-- column that its numbers go into: that column, or one of a foreign key that refers to it.
WITH narrow AS MATERIALIZED (
    SELECT DISTINCT ON (k.confrelid, pair.referred)
           k.confrelid, pair.referred,
           format('%I.%I.%I', rn.nspname, r.relname, a.attname) AS name, format_type(a.atttypid, NULL) AS type
      FROM pg_constraint k
      CROSS JOIN LATERAL unnest(k.confkey, k.conkey) AS pair(referred, referring)
      JOIN pg_class r ON r.oid = k.conrelid
      JOIN pg_namespace rn ON rn.oid = r.relnamespace
      JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = pair.referring
     WHERE k.contype = 'f' AND k.conparentid = 0 AND a.atttypid IN ('int2'::regtype, 'int4'::regtype)
     ORDER BY 1, 2, a.attlen, 3)
SELECT n.nspname::text AS schema,
       c.relname::text AS name,
       c.oid::bigint AS oid,
       s.seqmin AS minimum,
       s.seqmax AS maximum,
       s.seqincrement AS increment,
       s.seqcycle AS cycles,
       has_sequence_privilege(c.oid, 'SELECT, USAGE') AS readable,
       f.schema AS table_schema,
       f."table",
       f."column",
       f.type,
       narrow.name AS narrow_name,
       narrow.type AS narrow_type,
       coalesce(f.inserted, 0) AS inserted
  FROM pg_sequence s
  JOIN pg_class c ON c.oid = s.seqrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN LATERAL (
      SELECT tn.nspname::text AS schema, t.relname::text AS "table", a.attname::text AS "column", t.oid, a.attnum,
             format_type(coalesce(nullif(y.typbasetype, 0), y.oid), NULL) AS type,
             pg_stat_get_tuples_inserted(t.oid) AS inserted
        FROM (SELECT d.refobjid AS table_oid, d.refobjsubid AS attnum, 1 AS rank
                FROM pg_depend d
               WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype IN ('a', 'i')
                 AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0
              UNION ALL
              SELECT ad.adrelid, ad.adnum, 2
                FROM pg_depend d JOIN pg_attrdef ad ON ad.oid = d.objid
               WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass
                 AND d.refobjid = c.oid) AS fed
        JOIN pg_attribute a ON a.attrelid = fed.table_oid AND a.attnum = fed.attnum AND NOT a.attisdropped
        JOIN pg_type y ON y.oid = a.atttypid
        JOIN pg_class t ON t.oid = fed.table_oid
        JOIN pg_namespace tn ON tn.oid = t.relnamespace
       ORDER BY fed.rank, t.oid
       LIMIT 1) AS f ON true
  LEFT JOIN narrow ON narrow.confrelid = f.oid AND narrow.referred = f.attnum
 WHERE c.relpersistence <> 't' AND {ours_c}
 ORDER BY 1, 2

-- The columns that sequences feed: owned, or named in a default. The one that owns it comes first.
WITH fed AS MATERIALIZED (
    SELECT d.objid AS sequence, d.refobjid AS table_oid, d.refobjsubid AS attnum, 1 AS rank
      FROM pg_depend d
     WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
       AND d.deptype IN ('a', 'i') AND d.refobjsubid > 0
    UNION ALL
    SELECT d.refobjid, ad.adrelid, ad.adnum, 2
      FROM pg_depend d JOIN pg_attrdef ad ON ad.oid = d.objid
     WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid = 0)
SELECT fed.sequence::bigint AS sequence,
       n.nspname::text AS table_schema,
       t.relname::text AS "table",
       a.attname::text AS "column",
       format_type(coalesce(nullif(y.typbasetype, 0), y.oid), NULL) AS type,
       t.oid::bigint AS table_oid,
       a.attnum::int AS attnum,
       coalesce(pg_stat_get_tuples_inserted(t.oid), 0) AS inserted
  FROM fed
  JOIN pg_sequence s ON s.seqrelid = fed.sequence
  JOIN pg_class t ON t.oid = fed.table_oid
  JOIN pg_namespace n ON n.oid = t.relnamespace
  JOIN pg_attribute a ON a.attrelid = fed.table_oid AND a.attnum = fed.attnum AND NOT a.attisdropped
  JOIN pg_type y ON y.oid = a.atttypid
 ORDER BY fed.rank, t.oid

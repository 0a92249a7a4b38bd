-- Every sequence. What it feeds is asked apart: in one statement the plan would depend on the catalog's own statistics,
-- which a fresh database lacks, and take half a minute for 5,000 of them.
SELECT n.nspname::text AS schema,
       c.relname::text AS name,
       c.oid::bigint AS oid,
       s.seqmin AS minimum,
       s.seqmax AS maximum,
       s.seqincrement AS increment,
       s.seqcycle AS cycles,
       has_sequence_privilege(c.oid, 'SELECT, USAGE') AS readable
  FROM pg_sequence s
  JOIN pg_class c ON c.oid = s.seqrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relpersistence <> 't' AND {ours_c}
 ORDER BY 1, 2

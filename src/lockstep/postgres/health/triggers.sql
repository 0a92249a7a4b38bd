-- Triggers that are switched off. Those of a foreign key by the key's name: it is not kept any more.
SELECT DISTINCT n.nspname::text AS schema, t.relname::text AS "table",
       coalesce(k.conname, g.tgname)::text AS name, g.tgisinternal AS foreign_key
  FROM pg_trigger g
  JOIN pg_class t ON t.oid = g.tgrelid
  JOIN pg_namespace n ON n.oid = t.relnamespace
  LEFT JOIN pg_constraint k ON k.oid = g.tgconstraint AND g.tgisinternal
 WHERE g.tgenabled = 'D' AND {ours_t}
 ORDER BY 1, 2, 3

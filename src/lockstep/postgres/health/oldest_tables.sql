-- The tables that hold the database's age down, whatever schema they lie in: what VACUUM has to begin with.
SELECT format('%I.%I', n.nspname, c.relname) AS name,
       greatest(age(c.relfrozenxid), age(t.relfrozenxid))::bigint AS xid_age,
       greatest(mxid_age(c.relminmxid), mxid_age(t.relminmxid))::bigint AS multixact_age
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
 WHERE c.relkind IN ('r', 'm') AND c.relfrozenxid <> '0'
   AND greatest(age(c.relfrozenxid), age(t.relfrozenxid)) > 0
 ORDER BY 2 DESC, 1
 LIMIT 3

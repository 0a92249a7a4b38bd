SELECT 'pg_constraint'::regclass AS classid, k.oid, 0, 'constraint', t.schema, t.name, k.conname::text,
       -- An inherited CHECK or foreign key is its parent's; a NOT NULL (18) is told by its column, a key's index by its key.
       CASE WHEN k.contype IN ('p', 'u', 'x') OR k.conislocal THEN concat(pg_get_constraintdef(k.oid),
           (SELECT format(' WITH (%s)', string_agg(o, ', ' ORDER BY o COLLATE "C")) FROM unnest(i.reloptions) o HAVING count(*) > 0), i.statistics,
           CASE WHEN i.indisclustered THEN ' CLUSTER' END, CASE WHEN NOT i.indisvalid THEN ' INVALID' END,
           CASE WHEN i.name <> k.conname THEN format(' INDEX %I', i.name) END,
           (SELECT ' ATTACHED TO ' || p.inhparent::regclass::text FROM pg_inherits p WHERE p.inhrelid = i.oid),
           CASE WHEN (k.contype = 'f' OR k.condeferrable) AND EXISTS (SELECT FROM pg_trigger g WHERE g.tgconstraint = k.oid AND g.tgenabled <> 'O')
                THEN ' TRIGGERS NOT ENABLED' END) END,
       NULL, coalesce((SELECT g.xmin FROM pg_trigger g WHERE g.tgconstraint = k.oid AND g.tgenabled <> 'O' ORDER BY age(g.xmin) LIMIT 1), k.xmin), NULL, 0::oid, ''::"char"
  FROM pg_constraint k JOIN tables t ON t.oid = k.conrelid
  LEFT JOIN indexes i ON i.constraint_oid = k.oid
 WHERE k.contype IN ('c', 'f', 'p', 'u', 'x')
UNION ALL
-- A NOT NULL constraint (18 and later) tells more than its column when it has a name of its own or is not validated.
SELECT 'pg_constraint'::regclass, k.oid, 0, 'not null constraint', t.schema, t.name, k.conname::text,
       CASE WHEN k.conislocal AND (NOT k.convalidated OR k.connoinherit
                 OR k.conname <> left(concat(t.name, '_', a.attname, '_not_null'), 63)) THEN '' END,
       pg_get_constraintdef(k.oid), k.xmin, NULL, 0::oid, ''::"char"
  FROM pg_constraint k JOIN tables t ON t.oid = k.conrelid
  JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]
 WHERE k.contype = 'n'
UNION ALL
SELECT 'pg_trigger'::regclass, g.oid, 0, 'trigger', t.schema, t.name, g.tgname::text,
       concat(pg_get_triggerdef(g.oid), CASE g.tgenabled WHEN 'D' THEN ' DISABLED' WHEN 'R' THEN ' REPLICA' WHEN 'A' THEN ' ALWAYS' END),
       NULL, g.xmin, NULL, 0::oid, ''::"char"
  FROM pg_trigger g JOIN tables t ON t.oid = g.tgrelid
  LEFT JOIN pg_trigger p ON p.oid = g.tgparentid
 WHERE NOT g.tgisinternal AND (p.oid IS NULL OR p.tgenabled <> g.tgenabled)
UNION ALL
SELECT 'pg_rewrite'::regclass, r.oid, 0, 'rule', t.schema, t.name, r.rulename::text,
       concat('ON ', CASE r.ev_type WHEN '1' THEN 'SELECT' WHEN '2' THEN 'UPDATE' WHEN '3' THEN 'INSERT' ELSE 'DELETE' END,
           CASE WHEN r.is_instead THEN ' INSTEAD' END, CASE r.ev_enabled WHEN 'D' THEN ' DISABLED' WHEN 'R' THEN ' REPLICA' WHEN 'A' THEN ' ALWAYS' END),
       pg_get_ruledef(r.oid), r.xmin, NULL, 0::oid, ''::"char"
  FROM pg_rewrite r JOIN tables t ON t.oid = r.ev_class WHERE r.rulename <> '_RETURN'
UNION ALL
SELECT 'pg_policy'::regclass, p.oid, 0, 'policy', t.schema, t.name, p.polname::text,
       concat(CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END, ' FOR ',
           CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
           ' TO ', (SELECT string_agg(CASE r WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(r)) END, ', '
                                      ORDER BY CASE r WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(r) END COLLATE "C")
                      FROM unnest(p.polroles) r)),
       concat(' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')', ' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')'),
       p.xmin, NULL, 0::oid, ''::"char"
  FROM pg_policy p JOIN tables t ON t.oid = p.polrelid
UNION ALL
SELECT 'pg_statistic_ext'::regclass, s.oid, 0, 'statistics', o.schema, '', s.stxname::text,
       concat(pg_get_statisticsobjdef(s.oid), CASE WHEN s.stxstattarget >= 0 THEN ' STATISTICS ' || s.stxstattarget END),
       NULL, s.xmin, NULL, 0::oid, ''::"char"
  FROM pg_statistic_ext s JOIN own o ON o.oid = s.stxnamespace
 WHERE NOT EXISTS (SELECT FROM members m WHERE m.classid = 'pg_statistic_ext'::regclass AND m.objid = s.oid)

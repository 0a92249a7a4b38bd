SELECT 'pg_proc'::regclass AS classid, p.oid, 0, CASE p.prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' ELSE 'function' END,
       o.schema, '', format('%s(%s)', p.proname, oidvectortypes(p.proargtypes)),
       CASE WHEN p.prokind = 'a' THEN concat_ws(E'\n',
           pg_get_function_arguments(p.oid), 'RETURNS ' || pg_get_function_result(p.oid),
           (SELECT concat_ws(' ', 'SFUNC', a.aggtransfn, 'STYPE', format_type(a.aggtranstype, NULL), 'KIND', a.aggkind,
                'SSPACE ' || NULLIF(a.aggtransspace, 0), 'INITCOND ' || quote_literal(a.agginitval),
                'FINALFUNC ' || NULLIF(a.aggfinalfn, 0)::text, 'EXTRA ' || NULLIF(a.aggfinalextra, false), 'MODIFY', a.aggfinalmodify,
                'COMBINEFUNC ' || NULLIF(a.aggcombinefn, 0)::text, 'SERIALFUNC ' || NULLIF(a.aggserialfn, 0)::text,
                'DESERIALFUNC ' || NULLIF(a.aggdeserialfn, 0)::text, 'MSFUNC ' || NULLIF(a.aggmtransfn, 0)::text,
                'MINVFUNC ' || NULLIF(a.aggminvtransfn, 0)::text, 'MFINALFUNC ' || NULLIF(a.aggmfinalfn, 0)::text,
                'MEXTRA ' || NULLIF(a.aggmfinalextra, false), 'MMODIFY', a.aggmfinalmodify,
                'MSTYPE ' || format_type(NULLIF(a.aggmtranstype, 0), NULL), 'MSSPACE ' || NULLIF(a.aggmtransspace, 0),
                'MINITCOND ' || quote_literal(a.aggminitval), 'SORTOP ' || NULLIF(a.aggsortop, 0)::regoperator::text)
              FROM pg_aggregate a WHERE a.aggfnoid = p.oid),
           concat('PARALLEL ', p.proparallel), CASE WHEN p.prosecdef THEN 'SECURITY DEFINER' END)
       WHEN p.prosqlbody IS NULL THEN pg_get_functiondef(p.oid)
       ELSE replace(pg_get_functiondef(p.oid), pg_get_function_sqlbody(p.oid), '') END,
       CASE WHEN p.prosqlbody IS NOT NULL THEN pg_get_function_sqlbody(p.oid) END,
       p.xmin, p.proacl, p.proowner, 'f'::"char"
  FROM pg_proc p JOIN own o ON o.oid = p.pronamespace
 WHERE NOT EXISTS (SELECT FROM members m WHERE m.classid = 'pg_proc'::regclass AND m.objid = p.oid)
   AND NOT (o.schema = {ledger} AND p.proname = ANY ({ledger_functions}))
   -- What CREATE TYPE … AS RANGE makes goes with its type.
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'i'
                      AND d.refclassid = 'pg_type'::regclass)
UNION ALL
SELECT 'pg_operator'::regclass, p.oid, 0, 'operator', o.schema, '',
       format('%s(%s, %s)', p.oprname, CASE p.oprleft WHEN 0 THEN 'NONE' ELSE format_type(p.oprleft, NULL) END, format_type(p.oprright, NULL)),
       concat_ws(' ', 'FUNCTION', p.oprcode, 'COMMUTATOR ' || NULLIF(p.oprcom, 0)::regoperator::text,
           'NEGATOR ' || NULLIF(p.oprnegate, 0)::regoperator::text, 'RESTRICT ' || NULLIF(p.oprrest, 0)::text,
           'JOIN ' || NULLIF(p.oprjoin, 0)::text, CASE WHEN p.oprcanhash THEN 'HASHES' END, CASE WHEN p.oprcanmerge THEN 'MERGES' END),
       NULL, p.xmin, NULL, 0::oid, ''::"char"
  FROM pg_operator p JOIN own o ON o.oid = p.oprnamespace
 WHERE p.oprcode <> 0 AND NOT EXISTS (SELECT FROM members m WHERE m.classid = 'pg_operator'::regclass AND m.objid = p.oid)
UNION ALL
SELECT 'pg_opfamily'::regclass, f.oid, 0, 'operator family', o.schema, '', format('%s using %s', f.opfname, a.amname),
       concat_ws(E'\n',
           (SELECT string_agg(format('OPERATOR %s %s%s', x.amopstrategy, x.amopopr::regoperator,
                              CASE x.amoppurpose WHEN 'o' THEN ' FOR ORDER BY ' || (SELECT s.opfname FROM pg_opfamily s WHERE s.oid = x.amopsortfamily) END),
                              E'\n' ORDER BY x.amopstrategy, x.amopopr::regoperator::text COLLATE "C") FROM pg_amop x WHERE x.amopfamily = f.oid),
           (SELECT string_agg(format('FUNCTION %s (%s, %s) %s', x.amprocnum, format_type(x.amproclefttype, NULL),
                              format_type(x.amprocrighttype, NULL), x.amproc::regprocedure),
                              E'\n' ORDER BY x.amprocnum, x.amproc::regprocedure::text COLLATE "C") FROM pg_amproc x WHERE x.amprocfamily = f.oid)),
       NULL, f.xmin, NULL, 0::oid, ''::"char"
  FROM pg_opfamily f JOIN own o ON o.oid = f.opfnamespace JOIN pg_am a ON a.oid = f.opfmethod
 WHERE NOT EXISTS (SELECT FROM members m WHERE m.classid = 'pg_opfamily'::regclass AND m.objid = f.oid)
UNION ALL
SELECT 'pg_opclass'::regclass, c.oid, 0, 'operator class', o.schema, '', format('%s using %s', c.opcname, a.amname),
       concat_ws(' ', CASE WHEN c.opcdefault THEN 'DEFAULT' END, 'FOR TYPE', format_type(c.opcintype, NULL),
           'FAMILY', (SELECT f.opfname FROM pg_opfamily f WHERE f.oid = c.opcfamily), 'STORAGE ' || format_type(NULLIF(c.opckeytype, 0), NULL)),
       NULL, c.xmin, NULL, 0::oid, ''::"char"
  FROM pg_opclass c JOIN own o ON o.oid = c.opcnamespace JOIN pg_am a ON a.oid = c.opcmethod
 WHERE NOT EXISTS (SELECT FROM members m WHERE m.classid = 'pg_opclass'::regclass AND m.objid = c.oid)

-- What belongs to no schema. What the server brings has numbers below 16384.
SELECT 'pg_extension'::regclass AS classid, e.oid, 0, 'extension', '', '', e.extname::text,
       concat('SCHEMA ', (SELECT quote_ident(n.nspname) FROM pg_namespace n WHERE n.oid = e.extnamespace)), NULL, e.xmin, NULL, 0::oid, ''::"char"
  FROM pg_extension e
UNION ALL
SELECT 0::oid, e.oid, 0, 'extension version', '', e.extname::text, '', e.extversion, NULL, e.xmin, NULL, 0::oid, ''::"char"
  FROM pg_extension e
UNION ALL
SELECT 'pg_event_trigger'::regclass, e.oid, 0, 'event trigger', '', '', e.evtname::text,
       concat_ws(' ', 'ON', e.evtevent, 'WHEN TAG IN (' || (SELECT string_agg(quote_literal(t), ', ' ORDER BY t COLLATE "C") FROM unnest(e.evttags) t) || ')',
           'EXECUTE', e.evtfoid::regprocedure, CASE e.evtenabled WHEN 'D' THEN 'DISABLED' WHEN 'R' THEN 'REPLICA' WHEN 'A' THEN 'ALWAYS' END),
       NULL, e.xmin, NULL, 0::oid, ''::"char"
  FROM pg_event_trigger e
 WHERE NOT EXISTS (SELECT FROM members m WHERE m.classid = 'pg_event_trigger'::regclass AND m.objid = e.oid)
UNION ALL
SELECT 'pg_foreign_data_wrapper'::regclass, f.oid, 0, 'foreign data wrapper', '', '', f.fdwname::text,
       concat_ws(' ', 'HANDLER ' || NULLIF(f.fdwhandler, 0)::regproc::text, 'VALIDATOR ' || NULLIF(f.fdwvalidator, 0)::regproc::text, {fdw_options}),
       NULL, f.xmin, f.fdwacl, f.fdwowner, 'F'::"char"
  FROM pg_foreign_data_wrapper f
 WHERE NOT EXISTS (SELECT FROM members m WHERE m.classid = 'pg_foreign_data_wrapper'::regclass AND m.objid = f.oid)
UNION ALL
-- User mappings hold passwords: they are not looked at.
SELECT 'pg_foreign_server'::regclass, s.oid, 0, 'foreign server', '', '', s.srvname::text,
       concat_ws(' ', (SELECT 'WRAPPER ' || f.fdwname FROM pg_foreign_data_wrapper f WHERE f.oid = s.srvfdw),
           'TYPE ' || s.srvtype, 'VERSION ' || s.srvversion, {server_options}),
       NULL, s.xmin, s.srvacl, s.srvowner, 'S'::"char"
  FROM pg_foreign_server s
 WHERE NOT EXISTS (SELECT FROM members m WHERE m.classid = 'pg_foreign_server'::regclass AND m.objid = s.oid)
UNION ALL
SELECT 'pg_subscription'::regclass, s.oid, 0, 'subscription', '', '', s.subname::text,
       concat_ws(' ', CASE WHEN s.subenabled THEN 'ENABLED' ELSE 'DISABLED' END, 'SLOT ' || s.subslotname,
           'PUBLICATIONS ' || array_to_string(s.subpublications, ', '), CASE WHEN s.subbinary THEN 'BINARY' END,
           'STREAMING ' || NULLIF(NULLIF(s.substream::text, 'false'), 'f'), 'SYNCHRONOUS_COMMIT ' || NULLIF(s.subsynccommit, 'off')),
       NULL, NULL::xid, NULL, 0::oid, ''::"char"
  FROM pg_subscription s WHERE s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
UNION ALL
SELECT 'pg_language'::regclass, l.oid, 0, 'language', '', '', l.lanname::text,
       concat_ws(' ', CASE WHEN l.lanpltrusted THEN 'TRUSTED' END, 'HANDLER ' || NULLIF(l.lanplcallfoid, 0)::regproc::text,
           'INLINE ' || NULLIF(l.laninline, 0)::regproc::text, 'VALIDATOR ' || NULLIF(l.lanvalidator, 0)::regproc::text),
       NULL, l.xmin, l.lanacl, l.lanowner, 'l'::"char"
  FROM pg_language l
 WHERE l.lanispl AND NOT EXISTS (SELECT FROM members m WHERE m.classid = 'pg_language'::regclass AND m.objid = l.oid)
UNION ALL
SELECT 'pg_am'::regclass, a.oid, 0, 'access method', '', '', a.amname::text, concat('TYPE ', a.amtype, ' HANDLER ', a.amhandler),
       NULL, a.xmin, NULL, 0::oid, ''::"char"
  FROM pg_am a WHERE a.oid >= 16384 AND NOT EXISTS (SELECT FROM members m WHERE m.classid = 'pg_am'::regclass AND m.objid = a.oid)
UNION ALL
SELECT 'pg_cast'::regclass, c.oid, 0, 'cast', '', '', format('%s as %s', format_type(c.castsource, NULL), format_type(c.casttarget, NULL)),
       concat_ws(' ', CASE c.castmethod WHEN 'f' THEN 'FUNCTION ' || c.castfunc::regprocedure::text WHEN 'i' THEN 'INOUT' ELSE 'BINARY' END,
           CASE c.castcontext WHEN 'a' THEN 'AS ASSIGNMENT' WHEN 'i' THEN 'AS IMPLICIT' END),
       NULL, c.xmin, NULL, 0::oid, ''::"char"
  FROM pg_cast c WHERE c.oid >= 16384 AND NOT EXISTS (SELECT FROM members m WHERE m.classid = 'pg_cast'::regclass AND m.objid = c.oid)
   -- From a range to its multirange: goes with the type.
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_cast'::regclass AND d.objid = c.oid AND d.deptype = 'i')
UNION ALL
SELECT 'pg_transform'::regclass, f.oid, 0, 'transform', '', '', format('%s for %s', format_type(f.trftype, NULL), l.lanname),
       concat_ws(' ', 'FROM SQL ' || NULLIF(f.trffromsql, 0)::regprocedure::text, 'TO SQL ' || NULLIF(f.trftosql, 0)::regprocedure::text),
       NULL, f.xmin, NULL, 0::oid, ''::"char"
  FROM pg_transform f JOIN pg_language l ON l.oid = f.trflang
 WHERE NOT EXISTS (SELECT FROM members m WHERE m.classid = 'pg_transform'::regclass AND m.objid = f.oid)
UNION ALL
SELECT 'pg_publication'::regclass, p.oid, 0, 'publication', '', '', p.pubname::text,
       concat_ws(E'\n', CASE WHEN p.puballtables THEN 'FOR ALL TABLES' END,
           concat_ws(', ', CASE WHEN p.pubinsert THEN 'insert' END, CASE WHEN p.pubupdate THEN 'update' END,
                     CASE WHEN p.pubdelete THEN 'delete' END, CASE WHEN p.pubtruncate THEN 'truncate' END),
           CASE WHEN p.pubviaroot THEN 'VIA ROOT' END, 'GENERATED ' || NULLIF(to_jsonb(p) ->> 'pubgencols', 'n'),
           {publication_schemas},
           (SELECT string_agg(concat(r.prrelid::regclass{publication_columns}{publication_filter}), E'\n' ORDER BY r.prrelid::regclass::text COLLATE "C")
              FROM pg_publication_rel r WHERE r.prpubid = p.oid)),
       NULL, p.xmin, NULL, 0::oid, ''::"char"
  FROM pg_publication p

SELECT 'pg_namespace'::regclass::oid AS classid, n.oid AS objid, 0 AS subid, 'schema' AS kind, n.nspname::text AS schema,
       '' AS parent, '' AS name, '' AS definition, NULL::text AS body, n.xmin AS xid, n.nspacl AS acl,
       n.nspowner AS owner, 'n'::"char" AS acl_kind
  FROM pg_namespace n JOIN own o ON o.oid = n.oid
UNION ALL
SELECT 'pg_class'::regclass, t.oid, 0,
       CASE t.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table' ELSE 'table' END,
       t.schema, '', t.name,
       concat_ws(E'\n',
           CASE t.relpersistence WHEN 'u' THEN 'UNLOGGED' END,
           (SELECT CASE WHEN t.relispartition
                        THEN concat(format('PARTITION OF %s %s', min(i.inhparent::regclass::text), pg_get_expr(t.relpartbound, t.oid)),
                                    CASE WHEN bool_or(i.inhdetachpending) THEN ' DETACH PENDING' END)
                        ELSE format('INHERITS (%s)', string_agg(i.inhparent::regclass::text, ', ' ORDER BY i.inhseqno)) END
              FROM pg_inherits i WHERE i.inhrelid = t.oid HAVING count(*) > 0),
           CASE WHEN t.relkind = 'p' THEN 'PARTITION BY ' || pg_get_partkeydef(t.oid) END,
           CASE WHEN t.reloftype <> 0 THEN 'OF ' || format_type(t.reloftype, NULL) END,
           (SELECT 'USING ' || a.amname FROM pg_am a WHERE a.oid = t.relam AND a.amname <> 'heap'),
           (SELECT concat_ws(' ', format('SERVER %I', s.srvname), {table_options})
              FROM pg_foreign_table f JOIN pg_foreign_server s ON s.oid = f.ftserver WHERE f.ftrelid = t.oid),
           (SELECT format('WITH (%s)', string_agg(o, ', ' ORDER BY o COLLATE "C"))
              FROM (SELECT unnest(t.reloptions) AS o
                    UNION ALL SELECT 'toast.' || unnest(x.reloptions) FROM pg_class x WHERE x.oid = t.reltoastrelid) AS options
            HAVING count(*) > 0),
           CASE WHEN t.relrowsecurity THEN 'ENABLE ROW LEVEL SECURITY' END,
           CASE WHEN t.relforcerowsecurity THEN 'FORCE ROW LEVEL SECURITY' END,
           CASE WHEN t.relkind IN ('r', 'p') THEN CASE t.relreplident
                WHEN 'n' THEN 'REPLICA IDENTITY NOTHING' WHEN 'f' THEN 'REPLICA IDENTITY FULL'
                WHEN 'i' THEN concat('REPLICA IDENTITY USING INDEX ', (
                    SELECT quote_ident(x.relname) FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
                     WHERE i.indrelid = t.oid AND i.indisreplident)) END END,
           -- What a view is made of stands here; its text, which major versions print in their own ways, in the body.
           CASE WHEN t.relkind IN ('v', 'm') THEN format(E'COLUMNS (%s)', (
               SELECT string_agg(concat_ws(' ', quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),
                                 'COLLATE ' || NULLIF(a.attcollation, y.typcollation)::regcollation::text),
                                 ', ' ORDER BY a.attnum)
                 FROM pg_attribute a JOIN pg_type y ON y.oid = a.atttypid
                WHERE a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped)) END,
           CASE WHEN t.relkind IN ('v', 'm') THEN (
               SELECT 'USES ' || string_agg(DISTINCT used COLLATE "C", ', ' ORDER BY used COLLATE "C")
                 FROM (SELECT CASE d.refclassid
                              WHEN 'pg_class'::regclass THEN d.refobjid::regclass::text || coalesce('.' || quote_ident(a.attname), '')
                              WHEN 'pg_proc'::regclass THEN d.refobjid::regprocedure::text
                              WHEN 'pg_type'::regclass THEN d.refobjid::regtype::text END AS used
                         FROM pg_rewrite r
                         JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid AND d.deptype = 'n'
                         LEFT JOIN pg_attribute a ON d.refclassid = 'pg_class'::regclass AND a.attrelid = d.refobjid
                                                 AND a.attnum = d.refobjsubid AND a.attnum <> 0
                        WHERE r.ev_class = t.oid AND r.rulename = '_RETURN' AND d.refobjid >= 16384
                          AND NOT (d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid)) AS uses) END),
       CASE WHEN t.relkind IN ('v', 'm') THEN pg_get_viewdef(t.oid) END, t.xid, t.relacl, t.relowner, 'r'::"char"
  FROM tables t
UNION ALL
SELECT 'pg_class'::regclass, a.attrelid, a.attnum, 'column', t.schema, t.name, a.attname::text,
       -- A view's column is part of the view, unless it has a default of its own.
       CASE WHEN t.relkind IN ('r', 'p', 'f') OR a.atthasdef THEN concat_ws(' ',
           format_type(a.atttypid, a.atttypmod),
           'COLLATE ' || NULLIF(NULLIF(a.attcollation, y.typcollation), 0)::regcollation::text,
           CASE WHEN a.attnotnull THEN 'NOT NULL' END,
           CASE WHEN a.attgenerated = '' THEN 'DEFAULT ' || pg_get_expr(d.adbin, d.adrelid) END,
           CASE a.attgenerated WHEN 's' THEN format('GENERATED ALWAYS AS (%s) STORED', pg_get_expr(d.adbin, d.adrelid))
                               WHEN 'v' THEN format('GENERATED ALWAYS AS (%s)', pg_get_expr(d.adbin, d.adrelid)) END,
           CASE a.attidentity WHEN 'a' THEN 'GENERATED ALWAYS AS IDENTITY' WHEN 'd' THEN 'GENERATED BY DEFAULT AS IDENTITY' END,
           CASE WHEN a.attstorage <> y.typstorage THEN CASE a.attstorage
                WHEN 'p' THEN 'STORAGE PLAIN' WHEN 'e' THEN 'STORAGE EXTERNAL' WHEN 'm' THEN 'STORAGE MAIN' ELSE 'STORAGE EXTENDED' END END,
           CASE a.attcompression WHEN 'p' THEN 'COMPRESSION pglz' WHEN 'l' THEN 'COMPRESSION lz4' END,
           CASE WHEN a.attstattarget >= 0 THEN 'STATISTICS ' || a.attstattarget END,
           (SELECT format('(%s)', string_agg(o, ', ' ORDER BY o COLLATE "C")) FROM unnest(a.attoptions) o WHERE o NOT LIKE 'pg\_%' HAVING count(*) > 0),
           {column_options},
           CASE WHEN NOT a.attislocal THEN 'INHERITED' END) END,
       NULL, greatest_xid, a.attacl, t.relowner, 'c'::"char"
  FROM tables t
  JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
  JOIN pg_type y ON y.oid = a.atttypid
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.atthasdef
 CROSS JOIN LATERAL (SELECT CASE WHEN d.xmin IS NULL OR age(a.xmin) < age(d.xmin) THEN a.xmin ELSE d.xmin END) AS newest (greatest_xid)
UNION ALL
SELECT 'pg_class'::regclass, s.seqrelid, 0, 'sequence', r.schema, '', r.name,
       concat_ws(' ', CASE r.relpersistence WHEN 'u' THEN 'UNLOGGED' END, 'AS', format_type(s.seqtypid, NULL),
           'START', s.seqstart, 'INCREMENT', s.seqincrement, 'MINVALUE', s.seqmin, 'MAXVALUE', s.seqmax, 'CACHE', s.seqcache,
           CASE WHEN s.seqcycle THEN 'CYCLE' END,
           (SELECT format('%s %s.%I', CASE d.deptype WHEN 'i' THEN 'IDENTITY OF' ELSE 'OWNED BY' END, d.refobjid::regclass, a.attname)
              FROM pg_depend d JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
             WHERE d.classid = 'pg_class'::regclass AND d.objid = s.seqrelid AND d.deptype IN ('a', 'i')
               AND d.refclassid = 'pg_class'::regclass)),
       NULL, s.xmin, r.relacl, r.relowner, 's'::"char"
  FROM pg_sequence s JOIN relations r ON r.oid = s.seqrelid
UNION ALL
SELECT 'pg_class'::regclass, i.oid, 0, 'index', i.schema, i.relation, i.name,
       CASE WHEN i.constraint_oid IS NULL THEN concat(pg_get_indexdef(i.oid),
           (SELECT ' ATTACHED TO ' || p.inhparent::regclass::text FROM pg_inherits p WHERE p.inhrelid = i.oid),
           i.statistics, CASE WHEN i.indisclustered THEN ' CLUSTER' END, CASE WHEN NOT i.indisvalid THEN ' INVALID' END) END,
       NULL, CASE WHEN age(i.xid) < age(i.index_xid) THEN i.xid ELSE i.index_xid END, NULL, 0::oid, ''::"char"
  FROM indexes i

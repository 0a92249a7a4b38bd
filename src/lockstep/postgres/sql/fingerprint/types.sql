SELECT 'pg_type'::regclass AS classid, y.oid, 0, CASE y.typtype WHEN 'd' THEN 'domain' ELSE 'type' END, o.schema, '', y.typname::text,
       CASE y.typtype
       WHEN 'e' THEN format('ENUM (%s)', (SELECT string_agg(quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder)
                                            FROM pg_enum e WHERE e.enumtypid = y.oid))
       WHEN 'd' THEN concat_ws(' ', format_type(y.typbasetype, y.typtypmod),
           (SELECT 'COLLATE ' || y.typcollation::regcollation::text FROM pg_type b
             WHERE b.oid = y.typbasetype AND b.typcollation <> y.typcollation AND y.typcollation <> 0),
           CASE WHEN y.typnotnull THEN 'NOT NULL' END, 'DEFAULT ' || coalesce(pg_get_expr(y.typdefaultbin, 0), y.typdefault))
       WHEN 'c' THEN format('(%s)', (SELECT string_agg(concat_ws(' ', quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),
                                'COLLATE ' || NULLIF(NULLIF(a.attcollation, b.typcollation), 0)::regcollation::text), ', ' ORDER BY a.attnum)
                                FROM pg_attribute a JOIN pg_type b ON b.oid = a.atttypid
                               WHERE a.attrelid = y.typrelid AND a.attnum > 0 AND NOT a.attisdropped))
       WHEN 'r' THEN (SELECT concat_ws(' ', 'RANGE OF', format_type(r.rngsubtype, NULL), 'OPCLASS', (SELECT c.opcname FROM pg_opclass c WHERE c.oid = r.rngsubopc),
                             'COLLATE ' || NULLIF(r.rngcollation, 0)::regcollation::text, 'CANONICAL ' || NULLIF(r.rngcanonical, 0)::text,
                             'DIFF ' || NULLIF(r.rngsubdiff, 0)::text, 'MULTIRANGE ' || format_type(r.rngmultitypid, NULL))
                        FROM pg_range r WHERE r.rngtypid = y.oid)
       ELSE concat_ws(' ', 'BASE INPUT', y.typinput, 'OUTPUT', y.typoutput, 'RECEIVE ' || NULLIF(y.typreceive, 0)::text,
                      'SEND ' || NULLIF(y.typsend, 0)::text, 'TYPMOD_IN ' || NULLIF(y.typmodin, 0)::text, 'TYPMOD_OUT ' || NULLIF(y.typmodout, 0)::text,
                      'ANALYZE ' || NULLIF(y.typanalyze, 0)::text, 'LENGTH', y.typlen, CASE WHEN y.typbyval THEN 'BY VALUE' END,
                      'ALIGN', y.typalign, 'STORAGE', y.typstorage, 'CATEGORY', y.typcategory, CASE WHEN y.typispreferred THEN 'PREFERRED' END,
                      'DEFAULT ' || quote_literal(y.typdefault), 'ELEMENT ' || format_type(NULLIF(y.typelem, 0), NULL), 'SUBSCRIPT ' || NULLIF(y.typsubscript, 0)::text,
                      CASE WHEN y.typcollation <> 0 THEN 'COLLATABLE' END, 'DELIMITER', y.typdelim,
                      CASE WHEN NOT y.typisdefined THEN 'SHELL' END)
       END,
       NULL,
       -- A label that is added leaves the type's own row as it was.
       coalesce((SELECT e.xmin FROM pg_enum e WHERE e.enumtypid = y.oid ORDER BY age(e.xmin) LIMIT 1), y.xmin),
       y.typacl, y.typowner, 'T'::"char"
  FROM pg_type y JOIN own o ON o.oid = y.typnamespace
 WHERE (y.typtype IN ('e', 'd', 'r') OR (y.typtype = 'b' AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = y.oid))
        OR (y.typtype = 'p' AND NOT y.typisdefined)
        OR (y.typtype = 'c' AND EXISTS (SELECT FROM pg_class c WHERE c.oid = y.typrelid AND c.relkind = 'c')))
   AND NOT EXISTS (SELECT FROM members m WHERE m.classid = 'pg_type'::regclass AND m.objid = y.oid)
UNION ALL
SELECT 'pg_constraint'::regclass, k.oid, 0, 'constraint', o.schema, y.typname::text, k.conname::text, pg_get_constraintdef(k.oid),
       NULL, k.xmin, NULL, 0::oid, ''::"char"
  FROM pg_constraint k JOIN pg_type y ON y.oid = k.contypid JOIN own o ON o.oid = y.typnamespace
 WHERE k.contype = 'c' AND NOT EXISTS (SELECT FROM members m WHERE m.classid = 'pg_type'::regclass AND m.objid = y.oid)
UNION ALL
-- The columns of a composite type are part of the type, but may have comments.
SELECT 'pg_class'::regclass, a.attrelid, a.attnum, 'column', r.schema, r.name, a.attname::text, NULL, NULL, a.xmin, NULL, 0::oid, ''::"char"
  FROM relations r JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped WHERE r.relkind = 'c'
UNION ALL
SELECT 'pg_collation'::regclass, c.oid, 0, 'collation', o.schema, '', c.collname::text,
       concat_ws(' ', 'PROVIDER', c.collprovider, 'COLLATE ' || c.collcollate, 'CTYPE ' || c.collctype,
           -- Its column has been colliculocale and colllocale.
           'LOCALE ' || coalesce(to_jsonb(c) ->> 'colllocale', to_jsonb(c) ->> 'colliculocale'), 'RULES ' || (to_jsonb(c) ->> 'collicurules'),
           CASE WHEN NOT c.collisdeterministic THEN 'NOT DETERMINISTIC' END),
       NULL, c.xmin, NULL, 0::oid, ''::"char"
  FROM pg_collation c JOIN own o ON o.oid = c.collnamespace
 WHERE NOT EXISTS (SELECT FROM members m WHERE m.classid = 'pg_collation'::regclass AND m.objid = c.oid)
UNION ALL
SELECT 'pg_conversion'::regclass, c.oid, 0, 'conversion', o.schema, '', c.conname::text,
       concat_ws(' ', CASE WHEN c.condefault THEN 'DEFAULT' END, 'FOR', pg_encoding_to_char(c.conforencoding), 'TO',
           pg_encoding_to_char(c.contoencoding), 'FROM', c.conproc),
       NULL, c.xmin, NULL, 0::oid, ''::"char"
  FROM pg_conversion c JOIN own o ON o.oid = c.connamespace
 WHERE NOT EXISTS (SELECT FROM members m WHERE m.classid = 'pg_conversion'::regclass AND m.objid = c.oid)
UNION ALL
SELECT 'pg_ts_config'::regclass, c.oid, 0, 'text search configuration', o.schema, '', c.cfgname::text,
       concat_ws(E'\n', (SELECT 'PARSER ' || p.prsname FROM pg_ts_parser p WHERE p.oid = c.cfgparser),
           (SELECT string_agg(format('%s: %s', m.maptokentype, m.mapdict::regdictionary), E'\n' ORDER BY m.maptokentype, m.mapseqno)
              FROM pg_ts_config_map m WHERE m.mapcfg = c.oid)),
       NULL, c.xmin, NULL, 0::oid, ''::"char"
  FROM pg_ts_config c JOIN own o ON o.oid = c.cfgnamespace
 WHERE NOT EXISTS (SELECT FROM members m WHERE m.classid = 'pg_ts_config'::regclass AND m.objid = c.oid)
UNION ALL
SELECT 'pg_ts_dict'::regclass, d.oid, 0, 'text search dictionary', o.schema, '', d.dictname::text,
       concat_ws(' ', (SELECT 'TEMPLATE ' || t.tmplname FROM pg_ts_template t WHERE t.oid = d.dicttemplate), d.dictinitoption),
       NULL, d.xmin, NULL, 0::oid, ''::"char"
  FROM pg_ts_dict d JOIN own o ON o.oid = d.dictnamespace
 WHERE NOT EXISTS (SELECT FROM members m WHERE m.classid = 'pg_ts_dict'::regclass AND m.objid = d.oid)
UNION ALL
SELECT 'pg_ts_parser'::regclass, p.oid, 0, 'text search parser', o.schema, '', p.prsname::text,
       concat_ws(' ', 'START', p.prsstart, 'GETTOKEN', p.prstoken, 'END', p.prsend, 'HEADLINE ' || NULLIF(p.prsheadline, 0)::text, 'LEXTYPES', p.prslextype),
       NULL, p.xmin, NULL, 0::oid, ''::"char"
  FROM pg_ts_parser p JOIN own o ON o.oid = p.prsnamespace
 WHERE NOT EXISTS (SELECT FROM members m WHERE m.classid = 'pg_ts_parser'::regclass AND m.objid = p.oid)
UNION ALL
SELECT 'pg_ts_template'::regclass, t.oid, 0, 'text search template', o.schema, '', t.tmplname::text,
       concat_ws(' ', 'INIT ' || NULLIF(t.tmplinit, 0)::text, 'LEXIZE', t.tmpllexize),
       NULL, t.xmin, NULL, 0::oid, ''::"char"
  FROM pg_ts_template t JOIN own o ON o.oid = t.tmplnamespace
 WHERE NOT EXISTS (SELECT FROM members m WHERE m.classid = 'pg_ts_template'::regclass AND m.objid = t.oid)
